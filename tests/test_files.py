"""Small files that a user names."""

import os
import re
import socket

import pytest

from netsrv.files import read_text_file


def test_a_file_is_read_whole(tmp_path):
    """Text in UTF-8 comes back, up to the last byte that is allowed."""
    path = tmp_path / "file"
    path.write_text("ä" * 50, "utf-8")
    assert read_text_file(str(path), 100) == "ä" * 50


def test_a_byte_order_mark_is_no_text(tmp_path):
    """What some editors put before the text is left out."""
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbftext")
    assert read_text_file(str(path), 100) == "text"


def make_directory(path):
    """Make a folder."""
    path.mkdir()


def make_fifo(path):
    """Create a FIFO without a writer, whose opening would block."""
    os.mkfifo(path)


def make_socket(path):
    """Make a socket file."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def make_long(path):
    """Make a file that is one byte too long."""
    path.write_bytes(b"x" * 101)


def make_huge(path):
    """Make a file of 100 MiB that takes no room."""
    with path.open("wb") as file:
        file.truncate(100 * 2**20)


def make_binary(path):
    """Make a file that is no text."""
    path.write_bytes(b"ELF\x80")


def make_device(path):
    """Make a link to a file without end."""
    path.symlink_to("/dev/zero")


def make_endless(path):
    """Make a link to a file that is longer than it says."""
    path.symlink_to("/proc/self/maps")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (None, "No such file or directory"),
        (make_directory, "is a directory, not a file"),
        (make_fifo, "is not a regular file"),
        (make_socket, "is not a regular file"),
        (make_device, "is not a regular file"),
        (make_long, "is too long: a file of at most 100 bytes"),
        (make_huge, "is too long: a file of at most 100 bytes"),
        (make_endless, "is too long: a file of at most 100 bytes"),
        (make_binary, "is not text in UTF-8: see the byte at offset 3"),
    ],
)
def test_what_is_no_small_text_file_is_refused_at_once(make, words, tmp_path):
    """F99, F107: the error names what is missing, endless, binary, or would block."""
    path = tmp_path / "file"
    if make is not None:
        make(path)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read_text_file(str(path), 100)
    assert str(caught.value) == words


def test_a_file_without_permission(tmp_path):
    """F99: the error has the errno's text."""
    path = tmp_path / "file"
    path.write_text("secret")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    with pytest.raises(ValueError, match=r"^Permission denied$"):
        read_text_file(str(path), 100)


def test_a_path_with_a_nul_character():
    """F107: a path that the kernel cannot be asked for is an error like any other."""
    with pytest.raises(ValueError, match="null"):
        read_text_file("a\0b", 100)
