"""The files of unix sockets: long paths, and several servers that start at once."""

import fcntl
import os
import socket
import threading

import pytest

from netsrv.sockets import AddressUnavailable, opening, unixfiles
from netsrv.sockets.addresses import MAX_SUN_PATH, UnixPath
from netsrv.sockets.opening import open_unix
from tests.timeouts import TIMEOUT


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """Work in a folder whose path alone is longer than that of a socket may be."""
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def leave_stale(path):
    """Leave a socket file without a listener; *path* is relative."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)


def serves(path):
    """Return True if a client can connect to *path*."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


@pytest.mark.parametrize("stale", [False, True])
def test_f137_a_short_relative_path_works_in_a_deep_folder(deep, stale, monkeypatch):
    """It is bound as it is written, shown whole, and removed though the server has moved."""
    if stale:
        leave_stale("s")
    opened = open_unix(UnixPath("s"), mode=0o600)
    assert serves("s")
    assert opened.address == f"{deep}/s"
    assert opened.chmod(0o640)
    assert os.stat("s").st_mode & 0o777 == 0o640
    with pytest.raises(AddressUnavailable, match="a server listens there"):
        open_unix(UnixPath("s"))
    monkeypatch.chdir("/")
    opened.close()
    assert os.listdir(deep) == []


def test_f137_a_path_that_is_too_long_as_it_is_written_is_a_line(deep, tmp_path, monkeypatch):
    """The line has the length and the limit; a path at the limit works."""
    for path in (f"{deep}/s", "s" * (MAX_SUN_PATH + 1)):
        with pytest.raises(AddressUnavailable, match=f"has {len(path)} bytes, .* at most 107"):
            open_unix(UnixPath(path))
    assert os.listdir(deep) == []
    opened = open_unix(UnixPath("s" * MAX_SUN_PATH))
    assert serves("s" * MAX_SUN_PATH)
    opened.close()
    assert os.listdir(deep) == []


@pytest.mark.parametrize("stale", [False, True])
def test_f137_the_folder_is_locked_from_the_look_to_the_listener(tmp_path, stale, monkeypatch):
    """No other server looks between: it would see a file at which no server listens yet."""
    path = str(tmp_path / "s")
    if stale:
        leave_stale(path)
    steps = []

    def watch(name):
        really = getattr(opening, name)

        def step(*arguments):
            folder = os.open(tmp_path, os.O_RDONLY)
            try:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(folder)
            steps.append(name)
            return really(*arguments)

        monkeypatch.setattr(opening, name, step)

    for name in ("find_stale_file", "bind", "listen"):
        watch(name)
    open_unix(UnixPath(path)).close()
    assert steps == ["find_stale_file", "bind", "listen"]


@pytest.mark.parametrize("number", range(20))
def test_f137_of_several_starts_on_one_stale_file_one_gets_it(tmp_path, number):
    """The others are told that a server listens there, and the file is the winner's."""
    path = str(tmp_path / "s")
    leave_stale(path)
    opened, refused, ready = [], [], threading.Barrier(4)

    def start():
        ready.wait(TIMEOUT)
        try:
            opened.append(open_unix(UnixPath(path)))
        except AddressUnavailable as error:
            refused.append(error.in_use)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert (len(opened), refused) == (1, [True] * 3)
    assert serves(path)
    opened[0].close()
    assert not os.path.exists(path)


def test_f137_a_file_that_was_replaced_meanwhile_is_not_ours(tmp_path, monkeypatch):
    """A program that takes no lock may replace the file: the start fails, and its file stays."""
    path = str(tmp_path / "s")
    really = opening.listen

    def listen(sock, backlog):
        os.unlink(path)
        leave_stale(path)
        return really(sock, backlog)

    monkeypatch.setattr(opening, "listen", listen)
    with pytest.raises(AddressUnavailable, match="Address already in use") as caught:
        open_unix(UnixPath(path))
    assert caught.value.in_use
    assert os.path.exists(path)


def test_f137_a_lock_that_another_program_keeps_does_not_keep_a_server_from_starting(
    tmp_path, monkeypatch
):
    """Whoever can read a folder can lock it; after some tries the server starts without."""
    naps = []
    monkeypatch.setattr(unixfiles.time, "sleep", naps.append)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        open_unix(UnixPath(str(tmp_path / "s"))).close()
    finally:
        os.close(folder)
    assert len(naps) == unixfiles.LOCK_TRIES
