"""A UDP client that repeats a request, and its tests with a server that loses datagrams."""

import socket

import pytest
from twisted.internet.protocol import DatagramProtocol


def ask(address: tuple[str, int], question: bytes, tries: int = 5, wait: float = 0.2) -> bytes:
    """Send a question until there is an answer.  Put your client here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(wait)
        sock.connect(address)
        for _ in range(tries):
            sock.send(question)
            try:
                return sock.recv(65535)
            except TimeoutError:
                continue
    raise TimeoutError(f"{tries} questions and no answer")


class LosesTwo(DatagramProtocol):
    """Ignores the first two datagrams; it runs in the server's process."""

    lost = 0

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if self.lost < 2:
            self.lost += 1
        else:
            self.transport.write(datagram, addr)


def test_the_client_asks_again(netsrv_server):
    """The third question gets an answer, and there is no fourth one."""
    server = netsrv_server(LosesTwo, transport="udp")
    assert ask(server.address, b"hello") == b"hello"
    assert server.received == [b"hello"] * 3


def test_the_client_gives_up(netsrv_server):
    """The client reports an error after its last try."""
    server = netsrv_server("discard", transport="udp")
    with pytest.raises(TimeoutError, match="2 questions"):
        ask(server.address, b"hello", tries=2, wait=0.05)
    assert server.received == [b"hello"] * 2
