"""A client that uses plain sockets, and its tests: ``pytest test_socket_client.py``."""

import socket

import pytest


def shout(address: tuple[str, int], lines: list[str], timeout: float = 5) -> list[str]:
    """Send lines, and return the lines that come back.  Put your client here."""
    with socket.create_connection(address, timeout) as sock:
        sock.sendall("".join(f"{line}\n" for line in lines).encode())
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile(encoding="utf-8") as answer:
            return answer.read().splitlines()


def test_the_client_gets_its_lines_back(netsrv_server):
    """The lines come back, and the server has received exactly these."""
    server = netsrv_server("echo")
    assert shout(server.address, ["one", "two"]) == ["one", "two"]
    assert server.received == [b"one\ntwo\n"]
    [connection] = server.connections
    assert connection.close_reason == "peer"


def test_a_server_that_does_not_answer(netsrv_server):
    """No answer gives no lines, and no error."""
    server = netsrv_server("discard")
    assert shout(server.address, ["hello"]) == []
    assert server.received == [b"hello\n"]


def test_a_server_that_is_full(netsrv_server):
    """A reset is an error, not an empty answer."""
    server = netsrv_server("echo", max_connections=1, overload="reset")
    with socket.create_connection(server.address):
        server.wait_for_connections(1)
        with pytest.raises(ConnectionError):
            shout(server.address, ["hello"])
    assert len(server.connections) == 1
