"""Context variables: each connection has its own."""

import pytest

from tests.uvreactor.program import beside, output_of

SETUP = """
import contextvars

name = contextvars.ContextVar("name", default="none")

class Server(protocol.Protocol):
    def connectionMade(self):
        show(["made", name.get()])
        name.set("made")

    def dataReceived(self, data):
        show(["data", name.get()])
        name.set(data.decode())
        self.transport.write(b"x")

    def connectionLost(self, reason):
        show(["lost", name.get()])
"""

TALK = """
def script():
    first = connect(port)
    first.send(b"1")
    first.recv(1)
    second = connect(port)
    second.send(b"2")
    second.recv(1)
    peers.append(second)
    first.send(b"3")
    first.recv(1)
    first.close()
    done.wait(10)

peers = []
done = threading.Event()
lost = Server.connectionLost

def connectionLost(self, reason):
    lost(self, reason)
    done.set()

Server.connectionLost = connectionLost
in_thread(script)
"""

EXPECTED = [
    ["made", "start"],
    ["data", "made"],
    ["made", "start"],
    ["data", "made"],
    ["data", "1"],
    ["lost", "3"],
]


@pytest.mark.parametrize("plain", [False, True])
def test_f123_each_connection_has_its_context(plain):
    """A copy of that in which its port began to listen, from its first call to its last."""
    source = f"""{SETUP}
name.set("start")
port = serve(lambda address: Server())
if {plain}:
    port._acceptor._use_plain_code()
    port._acceptor._use_native_code = lambda: None
name.set("later")
{TALK}
reactor.run()
"""
    assert output_of(source)[: len(EXPECTED)] == EXPECTED  # then the reactor ends


@pytest.mark.parametrize("reactor", beside("asyncio"))
def test_f123_clients_and_datagrams_do_not_see_each_others(reactor):
    """The data of two clients and two datagram ports come in contexts of their own."""
    source = """
import contextvars

name = contextvars.ContextVar("name", default="none")
seen = []

class Port(protocol.DatagramProtocol):
    def datagramReceived(self, data, address):
        seen.append(name.get())
        name.set(data.decode())
        if len(seen) == 4:
            show(seen)
            reactor.stop()

name.set("start")
ports = [reactor.listenUDP(0, Port(), interface="127.0.0.1") for _ in range(2)]
name.set("later")
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

def send(number):
    sender.sendto(b"%d" % number, ("127.0.0.1", ports[number % 2].getHost().port))

for number in range(4):
    reactor.callLater(0.05 * number, send, number)
reactor.callLater(5, reactor.crash)
reactor.run()
"""
    assert output_of(source, reactor) == [["start", "start", "0", "1"]]


def test_f123_delayed_calls_share_one_context():
    """That in which the reactor began to run; no connection's."""
    source = f"""{SETUP}
port = serve(lambda address: Server())
name.set("run")

class Calling(protocol.Protocol):
    def connectionMade(self):
        name.set("connection")
        reactor.callLater(0, lambda: show(name.get()))
        reactor.callFromThread(lambda: show(name.get()))
        reactor.callLater(0.05, reactor.stop)

port = serve(lambda address: Calling())
peer = connect(port)
reactor.run()
"""
    assert output_of(source) == ["run", "run"]


def test_f123_a_connection_that_ends_itself_in_its_own_call():
    """``connectionLost`` in the context of the connection that calls it."""
    source = f"""{SETUP}
class Ending(Server):
    def dataReceived(self, data):
        name.set("ending")
        self.transport.connectionLost(protocol.connectionDone)
        reactor.callLater(0.05, reactor.stop)

port = serve(lambda address: Ending())
peer = connect(port)
peer.send(b"x")
reactor.run()
"""
    assert output_of(source) == [["made", "none"], ["lost", "ending"]]
