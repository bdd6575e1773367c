"""Accepted sockets: their transports are those of Twisted's `adoptStreamConnection`."""

import socket
from contextlib import contextmanager

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor

from netsrv.uvreactor.accepted_socket import AcceptedSocket


def listening_socket(family, tmp_path):
    """Listen at a free address of *family*."""
    sock = socket.socket(family)
    sock.bind(
        {
            socket.AF_INET: ("127.0.0.1", 0),
            socket.AF_INET6: ("::1", 0),
            socket.AF_UNIX: str(tmp_path / "socket"),
        }[family]
    )
    sock.listen()
    return sock


@contextmanager
def accepted(family, tmp_path):
    """Yield the accepted socket of a connection, its peer's address, and the peer's socket."""
    with listening_socket(family, tmp_path) as listener, socket.socket(family) as peer:
        peer.settimeout(10)
        peer.connect(listener.getsockname())
        yield *listener.accept(), peer


def facts(transport):
    """Return what a program can see of a transport."""
    return (
        transport.getHost(),
        transport.getPeer(),
        transport.client,
        transport.hostname,
        transport.server,
        transport.sessionno,
        transport.logstr,
        repr(transport),
        transport.connected,
        transport.socket.gettimeout(),
        transport.socket.get_inheritable(),
    )


@pytest.fixture
def reactor():
    """A reactor of Twisted that does not run."""
    reactor = SelectReactor()
    yield reactor
    reactor.removeAll()
    for waker in reactor._internalReaders:
        waker.connectionLost(None)


FAMILIES = pytest.mark.parametrize(
    "family",
    [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX],
    ids=lambda family: family.name,
)


@FAMILIES
def test_the_transport_is_that_of_an_adopted_connection(reactor, family, tmp_path):
    """It differs only in the descriptor: the accepted one, where Twisted has a duplicate."""
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    with accepted(family, tmp_path) as (sock, sockaddr, _):
        number = sock.fileno()
        adopted = reactor.adoptStreamConnection(number, family, factory)
        ours = AcceptedSocket(reactor, sock, sockaddr)
        ours.serve(factory)
        assert facts(ours._transport) == facts(adopted)
        assert (ours._transport.fileno(), adopted.fileno() == number) == (number, False)
        assert isinstance(ours._transport, type(adopted))
        adopted.socket.close()
        sock.close()


@FAMILIES
def test_the_connection_ends_with_its_transport(reactor, family, tmp_path):
    """No other descriptor keeps it open."""
    with accepted(family, tmp_path) as (sock, sockaddr, peer):
        connection = AcceptedSocket(reactor, sock, sockaddr)
        connection.serve(Factory.forProtocol(Protocol))
        connection._transport.write(b"bye")
        connection._transport.loseConnection()
        while sock.fileno() != -1:
            reactor.iterate(0)
        assert (peer.recv(10), peer.recv(10)) == (b"bye", b"")


@FAMILIES
def test_nothing_is_built_for_a_socket_that_is_closed(reactor, family, tmp_path):
    """Serving raises OSError before ``buildProtocol`` is called."""
    built = []

    class Recording(Factory):
        def buildProtocol(self, addr):
            built.append(addr)

    with accepted(family, tmp_path) as (sock, sockaddr, _):
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            AcceptedSocket(reactor, sock, sockaddr).serve(Recording())
    assert built == []
