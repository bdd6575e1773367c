"""What programs use beyond Twisted's interfaces is there, as with Twisted's own reactors."""

import pytest

from tests.uvreactor.program import beside, output_of

REACTORS = pytest.mark.parametrize("reactor", beside("epoll"))

ATTRIBUTES = """
class Server(protocol.Protocol):
    def connectionMade(self):
        made.append(self.transport)
        if len(made) == 3:
            reactor.callLater(0, look)

    def connectionLost(self, reason):
        self.transport.client, self.transport.hostname
        show(["lost", self.transport.client == names[made.index(self.transport)]])

def look():
    for transport in made:
        host, number = transport.getPeer().host, transport.sessionno
        show([transport.client in names, transport.hostname == host])
        show([transport.server is port, number, repr(transport) == expected(number)])
        show(transport.logPrefix() == f"Server,{number},{host}")
    names[:] = [transport.client for transport in made]
    for sock in socks:
        sock.close()
    reactor.callLater(0.2, reactor.stop)

def expected(number):
    return f"<Server #{number} on {port.getHost().port}>"

made = []
"""


@REACTORS
@pytest.mark.parametrize("plain", [False, True])
def test_f124_public_attributes_of_a_connection(reactor, plain):
    """``client``, ``hostname``, ``server`` and ``sessionno``, in every call of the protocol."""
    source = f"""{ATTRIBUTES}
port = serve(lambda address: Server())
if {plain and reactor == "uvloop"}:
    port._acceptor._use_plain_code()
    port._acceptor._use_native_code = lambda: None
socks = [connect(port) for _ in range(3)]
names = [sock.getsockname() for sock in socks]
reactor.run()
"""
    shown = output_of(source, reactor)
    expected = []
    for number in range(3):
        expected += [[True, True], [True, number, True], True]
    assert shown == [*expected, *[["lost", True]] * 3]


def test_f124_connections_without_a_port_of_twisted():
    """Those of `acceptStreams`, as netsrv's own: their port is None, as with adopted ones."""
    source = """
from netsrv.uvreactor.acceptor import accept_streams

class Server(protocol.Protocol):
    def connectionMade(self):
        show([self.transport.server, self.transport.sessionno == sock.getsockname()[1]])
        reactor.stop()

listener = socket.create_server(("127.0.0.1", 0))
listener.setblocking(False)
factory = protocol.Factory.forProtocol(Server)
acceptor = accept_streams(
    reactor, listener, lambda connection, sockaddr: connection.serve(factory),
    None, None, lambda: True,
)
acceptor.resume()
sock = socket.create_connection(listener.getsockname())
reactor.run()
"""
    assert output_of(source) == [[None, True]]


STATES = {
    "reading": ("pass", 1),
    "paused": ("self.transport.pauseProducing()", 0),
    "stopped reading": ("self.transport.stopReading()", 0),
    "paused with output": (
        "self.transport.pauseProducing(); self.transport.write(bytes(2**25))",
        1,
    ),
    "closing with output": (
        "self.transport.write(bytes(2**25)); self.transport.loseConnection()",
        1,
    ),
}


@REACTORS
@pytest.mark.parametrize("state", STATES)
def test_f124_remove_all_reports_what_is_watched(reactor, state):
    """A connection that reads or writes; not one that is paused."""
    action, count = STATES[state]
    source = f"""
class Server(protocol.Protocol):
    def connectionMade(self):
        {action}
        reactor.callLater(0.05, look)

def look():
    port.stopReading()
    removed = reactor.removeAll()
    show([len(removed), len(reactor.removeAll())])
    for selectable in removed:
        selectable.connectionLost(protocol.connectionDone)
    reactor.stop()

port = serve(lambda address: Server())
sock = connect(port)
reactor.run()
"""
    assert output_of(source, reactor) == [[count, 0]]


def test_f124_the_end_of_the_reactor_is_told_to_paused_connections_too():
    """More than Twisted's reactors do: ``connectionLost`` is called."""
    source = """
class Server(protocol.Protocol):
    def connectionMade(self):
        self.transport.pauseProducing()
        reactor.callLater(0.05, reactor.stop)

    def connectionLost(self, reason):
        show(reason.type.__name__)

port = serve(lambda address: Server())
sock = connect(port)
reactor.run()
"""
    assert output_of(source) == ["ConnectionLost"]


@REACTORS
def test_f124_delayed_calls_follow_a_clock_that_a_program_sets(reactor):
    """While ``reactor.seconds`` is replaced, calls are due by it; others keep their own clock."""
    source = """
now = 1000.0
real = reactor.seconds
ordinary = reactor.callLater(0.3, show, "ordinary")
reactor.seconds = lambda: now
late = reactor.callLater(100, show, "late")
early = reactor.callLater(0, show, "early")
moved = reactor.callLater(100, show, "moved")
cancelled = reactor.callLater(0, show, "cancelled")
show([late.getTime(), late.seconds(), late in reactor.getDelayedCalls()])

def jump():
    global now
    show("jump")
    now = 1100.0
    moved.reset(0)
    reactor.callLater(0, finish)

def finish():
    reactor.seconds = real
    reactor.callLater(0.05, reactor.stop)

cancelled.cancel()
ordinary.cancel()
reactor.callLater(0, reactor.callLater, 0, jump)
reactor.run()
"""
    shown = output_of(source, reactor)
    assert shown[:2] == [[1100.0, 1000.0, True], "early"]
    assert sorted(shown[2:]) == ["jump", "late", "moved"]
