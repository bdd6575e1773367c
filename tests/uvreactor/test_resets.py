"""Peers that reset before they are served, and connections that end while others hold them."""

import errno
import socket

import pytest

from netsrv.uvreactor.native_acceptor import NativeAcceptor
from netsrv.uvreactor.socket_handle import peer_of_reset
from tests.uvreactor.accepting import accepting_on_loopback
from tests.uvreactor.conftest import Recorder, Served
from tests.uvreactor.peer import Peer
from tests.uvreactor.program import beside, output_of


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("data", [b"", b"hello"])
@pytest.mark.parametrize("plain", [False, True])
def test_f121_a_peer_that_resets_before_it_is_served_is_a_connection(runner, host, data, plain):
    """It has its address and its data, and then its connection is lost."""
    factory = Served(Recorder, {})
    port = runner.reactor.listenTCP(0, factory, interface=host)
    if plain:
        port._acceptor._use_plain_code()
    addresses = []
    for _ in range(20):
        peer = Peer(runner, host, port.getHost().port)
        addresses.append(peer.sock.getsockname()[:2])
        if data:
            peer.sock.send(data)
        peer.reset()
    runner.until(lambda: sum(protocol.reason is not None for protocol in factory.built) == 20)
    assert [(address.host, address.port) for address in factory.addresses] == addresses
    assert [protocol.received for protocol in factory.built] == [data] * 20
    assert {type(protocol.reason).__name__ for protocol in factory.built} == {"ConnectionLost"}
    peers = [protocol.transport.getPeer() for protocol in factory.built]
    assert peers == factory.addresses
    port.stopListening()


@pytest.mark.parametrize("reactor", beside("epoll", "asyncio"))
def test_f121_a_flood_of_resets_is_served_as_by_twisteds_reactors(reactor):
    """Each peer is a connection with its data, also if it came while the reactor was busy."""
    source = """
class Server(protocol.Protocol):
    data = b""

    def dataReceived(self, data):
        self.data += data

    def connectionLost(self, reason):
        seen.append([self.transport.getPeer().port, self.data.decode(), reason.type.__name__])
        if len(seen) == 50:
            show(sorted(seen) == sorted([port, "hi", "ConnectionLost"] for port in ports))
            reactor.stop()

def reset_some():
    for _ in range(25):
        sock = connect(port)
        ports.append(sock.getsockname()[1])
        sock.send(b"hi")
        reset(sock)

seen, ports = [], []
port = serve(lambda address: Server())
reset_some()
reactor.callLater(0.05, reset_some)
reactor.callLater(10, reactor.crash)
reactor.run()
"""
    assert output_of(source, reactor) == [True]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_f121_the_kernel_tells_the_address_after_a_reset(family):
    """``getpeername`` fails; SO_PEERNAME is what ``accept`` returns."""
    with socket.socket(family) as listener, socket.socket(family) as peer:
        listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen()
        peer.connect(listener.getsockname())
        with listener.accept()[0] as sock:
            name = peer.getsockname()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
            with pytest.raises(OSError, match="not connected"):
                sock.getpeername()
            assert peer_of_reset(sock) == name


CHILD = """
import multiprocessing

children = []

def fork():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,), daemon=True)
    child.start()
    children.append(child)

def ends(port, say=b""):
    sock = connect(port)
    sock.settimeout(5)
    sock.sendall(say)
    read = b""
    try:
        while data := sock.recv(100):
            read += data
    except TimeoutError:
        return "no end"
    except ConnectionResetError:
        return "reset"
    return read.decode()

def killed():
    for child in children:
        child.kill()
"""

HOLDERS = {
    "loseConnection": "self.transport.loseConnection()",
    "loseConnection after a write": "self.transport.write(b'bye'); self.transport.loseConnection()",
    "an exception": "1 / 0",
    "the end of the reactor": "reactor.stop()",
    "the end of the peer": "",
}


@pytest.mark.parametrize("reactor", beside("epoll"))
@pytest.mark.parametrize("how", HOLDERS)
def test_f122_a_close_reaches_the_peer_while_a_forked_child_holds_the_descriptor(reactor, how):
    """Whatever ends the connection."""
    source = f"""{CHILD}
class Server(protocol.Protocol):
    def dataReceived(self, data):
        fork()
        {HOLDERS[how]}

port = serve(lambda address: Server())

def script():
    if {how == "the end of the peer"}:
        sock = connect(port)
        sock.send(b"x")
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(5)
        show(sock.recv(10).decode())
    else:
        show(ends(port, b"x"))

thread = threading.Thread(target=script)
thread.start()
if {how != "the end of the reactor"}:
    def look():
        reactor.callLater(0.01, look) if thread.is_alive() else reactor.stop()
    look()
reactor.run()
thread.join()
killed()
"""
    expected = "bye" if "write" in how else ""
    assert output_of(source, reactor) == [expected]


@pytest.mark.parametrize("native", [True, False])
def test_f122_a_connection_that_is_not_served_ends_too(native):
    """A factory that builds no protocol closes the connection, whatever code has accepted it."""
    plain = "" if native else "port._acceptor._use_plain_code()"
    source = f"""{CHILD}
def refuse(address):
    fork()

port = serve(refuse)
{plain}
in_thread(lambda: show(ends(port)))
reactor.run()
killed()
"""
    assert output_of(source) == [""]


def test_f122_a_duplicate_of_the_socket_goes_on_with_the_connection(runner, served):
    """Closing the handle of a connection that a duplicate continues shuts nothing down."""
    peer, protocol = served()
    with protocol.transport.getHandle().dup() as duplicate:
        protocol.transport.getHandle().close()
        runner.turns()
        duplicate.send(b"hello")
        assert peer.read() == b"hello"


@pytest.fixture(params=[True, False], ids=["native", "plain"])
def closing(request, runner):
    """An acceptor that closes every connection without serving it."""
    with accepting_on_loopback(runner, NativeAcceptor) as accepting:
        if not request.param:
            accepting.acceptor._use_plain_code()
            accepting.acceptor._use_native_code = lambda: None
        accepting.acceptor._serve = lambda connection, sockaddr: connection.close()
        yield accepting


@pytest.mark.parametrize("size", [0, 10, 60000])
def test_f131_a_peer_that_has_spoken_sees_fin_when_it_is_closed(closing, size):
    """What it has sent is read first, so that the kernel does not reset the connection."""
    peers = [Peer(closing.runner, *closing.sock.getsockname()) for _ in range(5)]
    for peer in peers:
        peer.sock.send(bytes(size))
    for peer in peers:
        assert peer.read() == b""
        peer.sock.close()
    assert closing.failed == []


def test_f131_one_that_sends_without_end_holds_no_descriptor(closing):
    """No more is read than has come, up to a bound: then the kernel resets."""
    peer = Peer(closing.runner, *closing.sock.getsockname())
    peer.sock.setblocking(False)
    with pytest.raises(ConnectionError) as raised:
        peer.send(bytes(64 * 2**20))
    assert raised.value.errno in (errno.ECONNRESET, errno.EPIPE)
    peer.sock.close()
