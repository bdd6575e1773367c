"""A client that uses plain sockets, and its tests: ``pytest test_socket_client.py``."""

import socket

import pytest


def shout(address: tuple[str, int], lines: list[str], timeout: float = 5) -> list[str]:
    """Send some lines, and give the lines that come back.  Here is where your client goes."""
    with socket.create_connection(address, timeout) as sock:
        sock.sendall("".join(f"{line}\n" for line in lines).encode())
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile(encoding="utf-8") as answer:
            return answer.read().splitlines()


def test_the_client_gets_its_lines_back(netsrv_server):
    """What is sent comes back, and the server has got exactly that."""
    server = netsrv_server("echo")
    assert shout(server.address, ["one", "two"]) == ["one", "two"]
    assert server.received == [b"one\ntwo\n"]
    [connection] = server.connections
    assert connection.close_reason == "peer"


def test_a_server_that_says_nothing(netsrv_server):
    """No answer is no lines, and no error."""
    server = netsrv_server("discard")
    assert shout(server.address, ["anybody there?"]) == []
    assert server.received == [b"anybody there?\n"]


def test_a_server_that_is_full(netsrv_server):
    """A client that is reset gets an error, and no empty answer."""
    server = netsrv_server("echo", max_connections=1, overload="reset")
    with socket.create_connection(server.address):
        server.wait_for_connections(1)
        with pytest.raises(ConnectionError):
            shout(server.address, ["hello"])
    assert len(server.connections) == 1
