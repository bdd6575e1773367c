"""Push producers that are registered while output waits."""

import pytest

from tests.uvreactor.program import beside, output_of

MUCH = """
class Producer:
    paused = 0

    def __init__(self, transport):
        self.transport = transport

    def pauseProducing(self):
        self.paused += 1

    def resumeProducing(self):
        self.paused = 0

    def stopProducing(self):
        self.paused = 1

class Server(protocol.Protocol):
    def connectionMade(self):
        self.transport.write(bytes(32 * 2**20))
        reactor.callLater(0.05, self.late)

    def register(self):
        producer = Producer(self.transport)
        self.transport.registerProducer(producer, True)
        return producer

    def turns(self, producer, most):
        if producer.paused or not most:
            reactor.callLater(0, self.done)
        else:
            self.transport.write(bytes(1000))
            reactor.callLater(0, self.turns, producer, most - 1)

    def done(self):
        self.transport.abortConnection()
        reactor.stop()
"""

CASES = {
    "at once": """
        producer = self.register()
        show(producer.paused)
        self.transport.write(b"x")
        show(producer.paused > 0)
        self.done()""",
    "the next producer": """
        first = self.register()
        self.transport.write(b"x")
        self.transport.unregisterProducer()
        producer = self.register()
        show(producer.paused)
        self.transport.write(b"x")
        show(producer.paused > 0)
        self.done()""",
    "a write a turn": """
        show(0)
        producer = self.register()
        reactor.callLater(0.2, lambda: show(producer.paused > 0))
        self.turns(producer, 1000)""",
    "in a call of the protocol": """
        self.dataReceived = self.reply
        connection.send(b"x")""",
}

REPLY = """
    def reply(self, data):
        producer = self.register()
        show(producer.paused)
        self.transport.write(b"x")
        show(producer.paused > 0)
        self.done()
"""


@pytest.mark.parametrize("reactor", beside("epoll"))
@pytest.mark.parametrize("case", CASES)
def test_f118_a_producer_that_comes_while_output_waits_is_paused(reactor, case):
    """It is paused by its first write, in a call of the protocol or a turn of its own."""
    source = f"""{MUCH}{REPLY}
    def late(self):{CASES[case]}

port = serve(lambda address: Server())
connection = connect(port)
reactor.run()
"""
    if case == "a write a turn":
        source = source.replace("self.transport.abortConnection()", "").replace(
            "        reactor.stop()", "        reactor.callLater(0.3, reactor.stop)"
        )
    assert output_of(source, reactor) == [0, True]


@pytest.mark.parametrize("reactor", beside("epoll"))
def test_f118_it_is_resumed_when_the_peer_has_read(reactor):
    """And then it goes on."""
    source = f"""{MUCH}
    def late(self):
        producer = self.register()
        resume, producer.resumeProducing = producer.resumeProducing, self.resumed
        self.transport.write(b"x")
        in_thread(read)

    def resumed(self):
        show("resumed")
        self.transport.unregisterProducer()
        self.transport.loseConnection()

def read():
    count = 0
    while data := connection.recv(2**20):
        count += len(data)
    show(count)

port = serve(lambda address: Server())
connection = connect(port)
reactor.run()
"""
    assert output_of(source, reactor) == ["resumed", 32 * 2**20 + 1]
