"""Services behind protocol wrappers: those of Twisted, and those of third parties."""

import io
import itertools
import os
from functools import partial

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols import htb, policies
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import directlyProvides, implementer, providedBy

from netsrv.testing import MemoryServer

PROXY_HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.7 40000 7\r\n"


class Upper(Protocol):
    """Sends back what it receives, in upper case; it does not know half-closed connections."""

    def dataReceived(self, data):
        self.transport.write(data.upper())


def upper():
    """Return a quiet factory of `Upper`."""
    factory = Factory.forProtocol(Upper)
    factory.noisy = False
    return factory


class Forwarding(Protocol):
    """A third party's wrapper: it mirrors the transport's interfaces and forwards the rest."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def makeConnection(self, transport):
        directlyProvides(self, providedBy(transport))
        super().makeConnection(transport)
        self.wrapped.makeConnection(self)

    def dataReceived(self, data):
        self.wrapped.dataReceived(data)

    def connectionLost(self, reason):
        self.wrapped.connectionLost(reason)

    def __getattr__(self, name):
        return getattr(self.transport, name)


@implementer(IHalfCloseableProtocol)
class Calling(Forwarding):
    """A wrapper that claims to know half-closed connections, and calls the transport for it."""

    def __getattr__(self, name):
        attribute = getattr(self.transport, name)
        return partial(attribute) if callable(attribute) else attribute


@implementer(IProtocolFactory)
class ForwardingFactory:
    """Builds a wrapper around each protocol of *factory*."""

    noisy = False

    def __init__(self, factory, wrapper=Forwarding):
        self.factory = factory
        self.wrapper = wrapper

    def doStart(self):
        self.factory.doStart()

    def doStop(self):
        self.factory.doStop()

    def buildProtocol(self, addr):
        return self.wrapper(self.factory.buildProtocol(addr))


class TrafficLoggingInMemory(policies.TrafficLoggingFactory):
    """Twisted's factory, with log files that need not be closed."""

    def open(self, name):
        return io.StringIO()


def shaped(factory):
    """Return a factory of protocols with a traffic shaper that has no limit."""
    factory.protocol = htb.ShapedProtocolFactory(Upper, htb.HierarchicalBucketFilter())
    return factory


WRAPPERS = {
    "WrappingFactory": policies.WrappingFactory,
    "TimeoutFactory": lambda factory: policies.TimeoutFactory(factory, None),
    "ThrottlingFactory": policies.ThrottlingFactory,
    "LimitTotalConnectionsFactory": lambda factory: limited(factory),  # noqa: PLW0108 - below
    "TrafficLoggingFactory": lambda factory: TrafficLoggingInMemory(factory, ""),
    "two": lambda factory: policies.WrappingFactory(policies.WrappingFactory(factory)),
    "ShapedProtocolFactory": shaped,
    "forwarding": ForwardingFactory,
    "calling": lambda factory: ForwardingFactory(factory, Calling),
}


def limited(factory):
    """Return `LimitTotalConnectionsFactory` around a factory, whose protocol it wraps."""
    limiting = policies.LimitTotalConnectionsFactory()
    limiting.buildProtocol = lambda addr: policies.ProtocolWrapper(
        limiting, factory.buildProtocol(addr)
    )
    limiting.registerProtocol = limiting.unregisterProtocol = lambda protocol: None
    return limiting


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("half_close", [True, False])
def test_f112_a_wrapped_service_ends_with_its_peer(wrapper, half_close):
    """F112: the peer gets its reply and the end, the slot is free, and a drain ends."""
    factory = wrapper(upper())
    factory.noisy = False
    server = MemoryServer(factory, max_connections=1)
    for _ in range(3):
        client = server.connect()
        client.send(b"hello")
        assert client.received == b"HELLO"
        if half_close:
            client.end()
            assert client.close_kind == "closed"
        else:
            client.close()
        assert server.connections == 0
    assert server.counts.closed == {"peer": 3}
    assert server.counts.service_failures == 0
    server.connect()
    drained = server.drain(1)
    server.advance(1)
    assert drained.result.aborted == 1


def test_f112_a_service_behind_haproxywrappingfactory_ends_with_its_peer():
    """F112: the wrapper sees its header first; the rest is as for the other wrappers."""
    server = MemoryServer(HAProxyWrappingFactory(upper()))
    client = server.connect()
    client.send(PROXY_HEADER + b"hello")
    assert client.received == b"HELLO"
    client.end()
    assert (client.close_kind, server.connections) == ("closed", 0)


def test_f112_a_service_behind_tlsmemorybiofactory_ends_with_its_peer():
    """F112: a TLS client that half-closes without close_notify loses its connection only."""
    server = MemoryServer(TLSMemoryBIOFactory(CertificateOptions(), False, upper()))
    client = server.connect()
    client.send(b"this is no TLS")
    client.end()
    assert (client.close_kind is not None, server.connections) == (True, 0)


@pytest.mark.parametrize("wrapper", [Forwarding, Calling])
def test_f112_a_forwarded_descriptor_is_closed_once(wrapper, tmp_path):
    """F112: a descriptor from a peer on a unix socket reaches no service that did not ask."""
    connections = []
    server = MemoryServer(ForwardingFactory(upper(), wrapper))
    server.connect()
    connections.extend(server.server.listeners[0].gate.connections)
    with open(tmp_path / "file", "w") as file:
        descriptor = file.fileno()
        file_descriptor = os.dup(descriptor)
        connections[0].fileDescriptorReceived(file_descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file_descriptor)
    assert server.counts.service_failures == 0


def test_f112_the_transport_of_a_service_is_not_half_closeable():
    """F112: as Twisted's transports, it does not provide the interfaces of a protocol."""
    made = []

    class Look(Upper):
        def connectionMade(self):
            made.append(self.transport)

    MemoryServer(Factory.forProtocol(Look)).connect()
    assert not IHalfCloseableProtocol.providedBy(made[0])


class Failing(Upper):
    """Raises in the methods that its class attribute names."""

    raising = ()

    def readConnectionLost(self):
        if "readConnectionLost" in self.raising:
            raise RuntimeError("raised on purpose")

    def writeConnectionLost(self):
        if "writeConnectionLost" in self.raising:
            raise RuntimeError("raised on purpose")

    def connectionLost(self, reason):
        if "connectionLost" in self.raising:
            raise SystemExit("raised on purpose")


CALLBACKS = ["readConnectionLost", "writeConnectionLost", "connectionLost"]
SUBSETS = [subset for count in range(1, 4) for subset in itertools.combinations(CALLBACKS, count)]


@pytest.mark.parametrize("raising", SUBSETS, ids="+".join)
def test_f112_whatever_a_service_raises_at_its_end_the_slot_is_freed(raising, expected_failures):
    """F112: the connection is over and a drain ends, however the service fails."""
    kind = type("Failing", (Failing,), {"raising": raising})
    if raising != ("connectionLost",):
        kind = implementer(IHalfCloseableProtocol)(kind)
    server = MemoryServer(Factory.forProtocol(kind))
    client = server.connect()
    client.send(b"x")
    client.end()
    drained = server.drain(1)
    server.advance(10)
    assert drained.called
    assert server.connections == 0
    if server.counts.service_failures:  # one traceback a minute
        early = "readConnectionLost" in raising
        expected_failures.append("RuntimeError" if early else "SystemExit")
