"""A file of quotes: its format, its errors, and changes to it."""

import os
import re
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent

from netsrv.services.qotd import MAX_QUOTE_LENGTH, QotdService, QotdSettings, QuoteFile, read_quotes
from tests.doubles import answers, open_stream


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file with one quote."""
    path = tmp_path / "quotes"
    path.write_text("first\n")
    return path


def replace(path: Path, text: str) -> None:
    """Replace the file at *path* with a new one, as editors do."""
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


@pytest.mark.parametrize(
    ("text", "quotes"),
    [
        ("one", ["one"]),
        ("one\n%\ntwo\nlines\n%\n", ["one", "two\nlines"]),
        ("%\n%\none\n\n%\n%", ["one"]),
        ("one\r\n%\r\n100 %\r\n", ["one", "100 %"]),
        (" %\n%%\n", [" %\n%%"]),
        ("x" * MAX_QUOTE_LENGTH, ["x" * MAX_QUOTE_LENGTH]),
    ],
)
def test_quotes_stand_between_lines_of_percent_signs(text, quotes, path):
    """The format is that of fortune(6); a quote without a character is skipped."""
    path.write_bytes(text.encode())
    assert read_quotes(str(path)) == tuple(quotes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no quote"),
        ("\n%\n\n%\n", "holds no quote"),
        ("one\n%\n" + "x" * 510, "line 3: a quote of 510 characters, at most 509"),
        ("one\n%\ntwo\nwhät\n", "line 4: 'ä' is not a printable character of ASCII"),
        ("a\n%\n%\nb\tc", r"line 4: '\t' is not a printable character of ASCII"),
        ("a\x1b[31m", r"line 1: '\x1b' is not a printable character of ASCII"),
    ],
)
def test_f107_a_file_with_a_mistake_is_refused_with_its_line(text, words, path):
    """F107: the error names the text that cannot be sent, and its line."""
    path.write_bytes(text.encode())
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        read_quotes(str(path))
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {words}')}$"):
        QotdSettings(file=path)


def test_f107_a_fifo_is_refused_at_once(tmp_path):
    """F107: opening a FIFO does not block."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="is not a regular file"):
        QotdSettings(file=tmp_path / "fifo")


def test_quotes_of_a_file_are_sent(path):
    """Connections and datagrams get quotes of the file."""
    path.write_text("x" * MAX_QUOTE_LENGTH)
    service = QotdService()
    settings = QotdSettings(file=path)
    assert open_stream(service, settings)[1].value() == b"x" * 509 + b"\r\n"
    assert answers(service.datagram(settings), b"?" * 200)[0][0] == b"x" * 509 + b"\r\n"


def lines(logged: list[LogEvent]) -> list[str]:
    """Return what was logged, as a user sees it."""
    return [str(formatEvent(each)) for each in logged]


def test_f107_a_changed_file_is_read_again(path):
    """F107: a change is detected, at most once a second, even if the file was replaced."""
    clock = Clock()
    file = QuoteFile(path, clock.seconds)
    replace(path, "second\n")
    assert file.quotes() == ("first",)
    clock.advance(1)
    with capturedLogs() as logged:
        assert file.quotes() == ("second",)
    assert lines(logged) == [f"qotd: {path}: read again"]
    path.write_text("third, longer\n")
    clock.advance(1)
    assert file.quotes() == ("third, longer",)


def make_fifo(path: Path) -> None:
    """Replace the file with a FIFO, whose opening would block."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, "No such file or directory"),
        (make_fifo, "is not a regular file"),
        (lambda path: replace(path, ""), "holds no quote"),
        (lambda path: replace(path, "ä"), "line 1: 'ä' is not a printable character of ASCII"),
    ],
)
def test_f107_a_file_that_has_gone_bad_leaves_the_quotes_of_before(spoil, words, path):
    """F107: the last good quotes are served, and each change is logged once with the error."""
    clock = Clock()
    file = QuoteFile(path, clock.seconds)
    spoil(path)
    with capturedLogs() as logged:
        for _ in range(3):
            clock.advance(1)
            assert file.quotes() == ("first",)
    assert lines(logged) == [f"qotd: {path}: {words}; serving the previous quotes"]
    replace(path, "good again\n")
    clock.advance(1)
    assert file.quotes() == ("good again",)


def test_f107_a_relative_path_is_that_of_the_start(path, monkeypatch):
    """The file is found after a change of the working directory."""
    monkeypatch.chdir(path.parent)
    clock = Clock()
    file = QuoteFile(Path("quotes"), clock.seconds)
    monkeypatch.chdir("/")
    replace(path, "second\n")
    clock.advance(1)
    assert file.quotes() == ("second",)
