"""The directory of the start, which a reload enters again."""

import errno
import os

import pytest
from twisted.logger import globalLogPublisher

from netsrv.cli.directory import EMPTY_DIRECTORY, StartDirectory


@pytest.fixture
def warnings():
    """Collect the lines of the log about a directory."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield lambda: [event["error"] for event in events if "relative paths" in event["log_format"]]
    globalLogPublisher.removeObserver(events.append)


def test_a_directory_that_cannot_be_entered_resolves_no_path(tmp_path, monkeypatch, warnings):
    """Its paths do not begin in another directory, and one line says so until it is back."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    start = StartDirectory()
    os.chdir(second)
    first.rename(tmp_path / "gone")
    for _ in range(2):
        with start.entered():
            assert os.getcwd().endswith(EMPTY_DIRECTORY.rpartition("/")[2])
        assert os.getcwd() == str(second)
    assert warnings() == ["No such file or directory"]
    (tmp_path / "gone").rename(first)
    with start.entered():
        assert os.getcwd() == str(first)
    first.rename(tmp_path / "gone")
    with start.entered():
        pass
    assert warnings() == ["No such file or directory"] * 2


def test_without_a_descriptor_the_way_back_is_a_path(tmp_path, monkeypatch):
    """The directory is entered and left although no descriptor is free."""
    for name in ("start", "run"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "start")
    start = StartDirectory()
    os.chdir(tmp_path / "run")

    def exhausted(path, flags):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", exhausted)
    with start.entered():
        assert os.getcwd() == str(tmp_path / "start")
    assert os.getcwd() == str(tmp_path / "run")
