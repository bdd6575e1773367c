"""A file of lines, and what may happen to it."""

import errno
import os
import shutil

import pytest

from netsrv.files import BUFFER_SIZE, PIPE_CHUNK, LogFile


def lines_of(path):
    """Read the lines of a file."""
    return path.read_text().splitlines()


@pytest.fixture
def path(tmp_path):
    """A file in a folder of its own."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "access.log"


def test_lines_are_gathered_and_written_together(path):
    """Nothing is written before the flush, all of it then, after what was there."""
    path.write_text("before\n")
    file = LogFile(str(path))
    file.add("one\n")
    file.add("two\n")
    assert lines_of(path) == ["before"]
    file.flush()
    assert lines_of(path) == ["before", "one", "two"]
    file.add("three\n")
    file.close()
    file.close()
    assert lines_of(path) == ["before", "one", "two", "three"]


def test_many_lines_are_written_at_once(path):
    """Memory is bounded, however long the time to the next flush."""
    file = LogFile(str(path))
    for _ in range(BUFFER_SIZE // 100):
        file.add("x" * 99 + "\n")
    assert lines_of(path) == []
    file.add("x" * 99 + "\n")
    assert len(lines_of(path)) == BUFFER_SIZE // 100 + 1
    file.close()


def test_f101_a_file_that_was_moved_away_is_opened_again_under_its_name(path):
    """No line is lost or doubled, with or without a signal."""
    file = LogFile(str(path))
    for number in range(3):
        file.add(f"{number}\n")
        file.flush()
        file.add(f"{number} before the move\n")
        path.rename(path.with_suffix(f".{number}"))
        if number == 1:
            file.reopen()
    file.close()
    assert [lines_of(path.with_suffix(f".{number}")) for number in range(3)] == [
        ["0"],
        ["0 before the move", "1"],
        ["1 before the move", "2"],
    ]
    assert lines_of(path) == ["2 before the move"]
    assert file.dropped == 0


def test_f100_a_full_disk_costs_lines_and_nothing_else():
    """Whole lines are dropped and counted; the reason is known."""
    file = LogFile("/dev/full")
    file.add("one\n")
    file.add("two\n")
    file.flush()
    assert file.dropped == 2
    assert file.error.errno == errno.ENOSPC
    file.close()


def test_f140_a_disk_that_gets_full_in_a_line_has_whole_lines_only(path, monkeypatch):
    """The begun line is taken back, at once and whatever happens to the file then."""
    file, write = LogFile(str(path)), os.write
    accepted = iter([6])

    def write_some(descriptor, data):
        size = next(accepted, 0)
        if not size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:size])

    monkeypatch.setattr(os, "write", write_some)
    for number in range(3):
        file.add(f"{number}..\n")
    file.flush()
    assert path.read_text() == "0..\n"
    assert (file.dropped, file.error.errno) == (2, errno.ENOSPC)
    monkeypatch.undo()
    shutil.copy(path, path.with_suffix(".1"))
    os.truncate(path, 0)
    file.add("last\n")
    file.close()
    assert lines_of(path) == ["last"]
    assert lines_of(path.with_suffix(".1")) == ["0.."]


def test_f140_a_begun_line_that_another_writer_has_ended_is_left_alone(path, monkeypatch):
    """What another program appends to the file stays, and what follows is a line of its own."""
    file, write = LogFile(str(path)), os.write
    other = os.open(path, os.O_WRONLY | os.O_APPEND)
    accepted = iter([2])

    def write_some(descriptor, data):
        size = next(accepted, 0)
        if not size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[:size])
        write(other, b"other\n")
        return written

    monkeypatch.setattr(os, "write", write_some)
    file.add("lost\n")
    file.flush()
    monkeypatch.undo()
    file.add("last\n")
    file.close()
    os.close(other)
    assert file.dropped == 1
    assert path.read_text().endswith("other\nlast\n")


def test_f100_a_folder_that_is_gone_costs_lines_until_it_is_back(path):
    """A file without a name is no place for lines; with a name again it is written."""
    file = LogFile(str(path))
    shutil.rmtree(path.parent)
    file.add("lost\n")
    file.flush()
    assert (file.dropped, file.error.errno) == (1, errno.ENOENT)
    path.parent.mkdir()
    file.add("found\n")
    file.flush()
    assert lines_of(path) == ["found"]
    assert (file.dropped, file.error) == (1, None)
    file.close()


def test_a_folder_that_was_moved_away_takes_the_lines_with_it(path):
    """As long as the open file has a name, it is written."""
    file = LogFile(str(path))
    moved = path.parent.rename(path.parent.with_name("moved"))
    file.add("one\n")
    file.flush()
    assert lines_of(moved / path.name) == ["one"]
    assert file.dropped == 0
    file.close()


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path):
    """It is raised at the start, to the caller."""
    with pytest.raises(IsADirectoryError):
        LogFile(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        LogFile(str(tmp_path / "no" / "file"))


def test_a_pipe_without_a_reader_costs_lines_and_never_blocks(tmp_path):
    """A partial line is completed when there is room again: no line is torn."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file = LogFile(str(pipe))
    for number in range(20):
        file.add(f"{number:06d}" + "x" * PIPE_CHUNK + "\n")
        file.flush()
    assert file.dropped > 0
    first = read_pipe(reader)
    file.add("last\n")
    file.close()
    lines = (first + read_pipe(reader)).decode().split("\n")
    assert lines.pop() == ""
    assert lines.pop() == "last"
    assert {len(each) for each in lines} == {PIPE_CHUNK + 6}
    assert len(lines) + file.dropped == 20
    os.close(reader)


def read_pipe(descriptor):
    """Read what there is."""
    pieces = []
    try:
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    except BlockingIOError:
        pass
    return b"".join(pieces)
