"""The log's streams: what is lost is counted, and nothing blocks."""

import fcntl
import io
import os
import re
import select
import socket
import subprocess
import sys
import threading

import pytest
from twisted.logger import Logger, LogPublisher, textFileLogObserver

from netsrv import files
from netsrv.cli.log_stream import LogStream
from tests.timeouts import TIMEOUT


def opened(descriptor, **options):
    """Return a stream on a descriptor, whose reports go to itself as log lines."""
    publisher = LogPublisher()
    output = io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), **options)
    stream = LogStream(output, log=Logger(observer=publisher))
    publisher.addObserver(textFileLogObserver(stream, timeFormat=None))
    return stream


def read_all(descriptor):
    """Read what there is, in lines without the heads of log lines."""
    text = b""
    while select.select([descriptor], [], [], 0)[0] and (data := os.read(descriptor, 65536)):
        text += data
    return re.sub(r"- \[.*\] ", "", text.decode()).splitlines()


def test_f100_lines_that_standard_output_does_not_take_are_counted(tmp_path):
    """The next line written has the number of lost ones before it."""
    path = tmp_path / "log"
    target, full, file = os.open(path, os.O_WRONLY | os.O_CREAT), os.open("/dev/full", 1), -1
    file = os.dup(target)
    output = opened(target)
    for descriptor in (file, full, full, file, file):
        os.dup2(descriptor, target)
        output.write("line\n")
    for descriptor in (target, full, file):
        os.close(descriptor)
    assert re.sub(r"- \[.*\] ", "", path.read_text()).splitlines() == [
        "line",
        "2 lines of the log were lost before this one",
        "line",
        "line",
    ]


def test_f100_a_line_that_is_written_in_part_is_lost_whole(tmp_path, monkeypatch):
    """Where the disk gets full within a line, its beginning is taken back."""
    path = tmp_path / "log"
    target, write = os.open(path, os.O_WRONLY | os.O_CREAT), os.write
    output = opened(target)
    output.write("first\n")
    accepted = iter([2])

    def write_some(descriptor, data):
        size = next(accepted, 0)
        if not size:
            raise OSError("the disk is full")
        return write(descriptor, data[:size])

    monkeypatch.setattr(os, "write", write_some)
    output.write("torn\n")
    monkeypatch.undo()
    output.write("last\n")
    os.close(target)
    lines = path.read_text().splitlines()
    assert (lines[0], lines[2:]) == ("first", ["last"])
    assert lines[1].endswith("1 line of the log was lost before this one")


@pytest.mark.parametrize("reopened", [True, False], ids=["reopened", "polled"])
def test_f114_a_full_pipe_loses_whole_lines(reopened, monkeypatch):
    """Lines of any length are written whole or counted, with the descriptor's flags untouched."""
    if not reopened:
        monkeypatch.setattr(files, "_REOPEN_FLAGS", -1)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 16384)
    output = opened(writer)
    sent = [f"{number} {'x' * (number * 37 % 9000)}" for number in range(300)]
    received = []
    for number, line in enumerate(sent):
        output.write(f"{line}\n")
        if number % 7 == 0:
            received += read_all_parts(reader)
    received += read_all_parts(reader)
    output.write("last\n")
    received += read_all_parts(reader)
    assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(reader)
    os.close(writer)
    lines = re.sub(r"- \[.*\] ", "", "".join(received)).splitlines()
    reports = [
        re.fullmatch(r"(\d+) lines? of the log (?:was|were) lost before this one", x) for x in lines
    ]
    whole = [line for line, report in zip(lines, reports, strict=True) if not report]
    assert [line for line in whole if line not in sent and line != "last"] == []
    lost = sum(int(report[1]) for report in reports if report)
    assert lost > 0
    assert len(whole) + lost == len(sent) + 1


def read_all_parts(descriptor):
    """Read what there is, as a list of pieces of text."""
    pieces = []
    while select.select([descriptor], [], [], 0)[0]:
        pieces.append(os.read(descriptor, 65536).decode())
    return pieces


def test_f114_a_full_socket_loses_lines():
    """Standard output may be a socket, as under journald, and is not made non-blocking."""
    ours, theirs = socket.socketpair()
    output = opened(theirs.fileno())
    for number in range(20_000):
        output.write(f"{number} {'x' * 100}\n")
    first = read_all(ours.fileno())
    output.write("last\n")
    lines = [*first, *read_all(ours.fileno())]
    assert theirs.getblocking()
    lost = [x for x in lines if x.endswith("lost before this one")]
    assert len(lines) - 1 + int(lost[0].split()[0]) == 20_001
    ours.close()
    theirs.close()


def test_f114_threads_write_whole_lines(tmp_path):
    """Lines of several threads are neither mixed nor lost."""
    path = tmp_path / "log"
    target = os.open(path, os.O_WRONLY | os.O_CREAT)
    output = opened(target)

    def write(letter):
        for _ in range(300):
            output.write(letter * 50 + "\n")

    threads = [threading.Thread(target=write, args=[letter]) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    os.close(target)
    lines = sorted(path.read_text().splitlines())
    assert lines == [letter * 50 for letter in "abcd" for _ in range(300)]


def test_f146_characters_that_the_encoding_lacks_are_escaped(tmp_path):
    """The stream has the encoding of the one that it replaces."""
    path = tmp_path / "log"
    target = os.open(path, os.O_WRONLY | os.O_CREAT)
    output = opened(target, encoding="latin-1")
    print("Gr\u00fc\u00dfe \u2013 \udcff", file=output)
    os.close(target)
    assert path.read_bytes() == b"Gr\xfc\xdfe \\u2013 \\udcff\n"


def test_f146_missing_standard_descriptors_are_opened_without_dev_null():
    """The lowest descriptors are taken before any socket, also if /dev/null cannot be used."""
    script = (
        "import os, sys; from netsrv.cli import start; os.devnull = '/no/such/file'; "
        "start.reserve_stdio(); first = os.dup(0); os.write(int(sys.argv[1]), b'%d' % first)"
    )
    reader, writer = os.pipe()
    command = ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-c", script, str(writer)]
    subprocess.run(command, pass_fds=[writer], timeout=TIMEOUT, check=True)
    os.close(writer)
    with open(reader) as output:
        assert int(output.read()) > 2


def test_f146_open_standard_descriptors_need_no_dev_null(monkeypatch):
    """Nothing is opened if nothing is missing."""
    from netsrv.cli.start import reserve_stdio

    monkeypatch.setattr(os, "open", None)
    reserve_stdio()
