"""Tests of the greeter: run ``pytest`` beside its pyproject.toml."""

import socket

import pytest
from greeter.service import GreeterSettings, GuestBook

from netsrv.fixture import ServerError


def test_a_full_guest_book_forgets_the_least_recent_name():
    """The guest book needs no network, and its test neither."""
    book = GuestBook(GreeterSettings(max_names=2))
    lines = [book.greet(name) for name in (b"Ada", b"Grace", b"Ada", b"Mary", b"Ada", b"Grace")]
    assert lines[2] == b"Hello, Ada! (2)"
    assert lines[4:] == [b"Hello, Ada! (3)", b"Hello, Grace!"]


def test_two_connections_share_a_book(netsrv_server):
    """A name is known on every connection of the listener."""
    server = netsrv_server("greeter")
    answers = []
    for _ in range(2):
        with socket.create_connection(server.address, timeout=5) as sock:
            sock.sendall(b"Ada\n")
            answers.append(sock.recv(100))
    assert answers == [b"Hello, Ada!\n", b"Hello, Ada! (2)\n"]


def test_the_greeting_is_a_setting(netsrv_server):
    """The listener's settings reach the service, also on UDP."""
    server = netsrv_server("greeter", transport="udp", settings={"greeting": "Moin"})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(server.address)
        sock.send(b"Ada")
        assert sock.recv(100) == b"Moin, Ada!\n"


def test_a_bad_setting_is_refused(netsrv_server):
    """The settings class checks the value, and netsrv names its place."""
    with pytest.raises(ServerError, match=r"settings\.max_names: .*>= 1"):
        netsrv_server("greeter", settings={"max_names": 0})


def test_a_line_without_end(netsrv_server):
    """A line that is too long closes the connection, and nothing else."""
    server = netsrv_server("greeter")
    with socket.create_connection(server.address, timeout=5) as sock:
        sock.sendall(b"x" * 100)
        assert sock.recv(100) == b""
    assert server.connections[0].close_reason == "service"
