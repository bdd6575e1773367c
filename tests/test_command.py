"""netsrv serve: where its log goes."""

import os
import sys

from netsrv.command import Output


class Standard:
    """Standard output, which a test changes under way."""

    descriptor = -1

    def fileno(self):
        return self.descriptor


def test_f100_lines_that_standard_output_does_not_take_are_counted(tmp_path, monkeypatch):
    """The next line that it takes says how many were lost; a line that was torn is ended."""
    standard = Standard()
    monkeypatch.setattr(sys, "stdout", standard)
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)
    write = os.write
    output = Output()
    for descriptor in (file, full, full, file, file):
        standard.descriptor = descriptor
        output.write("line\n")
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    output.write("torn\n")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdout", standard)
    output.write("last\n")
    assert (tmp_path / "log").read_text().splitlines() == [
        "line",
        "2 lines of the log were lost before this one",
        "line",
        "line",
        "to",
        "1 lines of the log were lost before this one",
        "last",
    ]
    os.close(file)
    os.close(full)
