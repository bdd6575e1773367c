"""Faults on loopback, in the running reactor: the methods, and types of faults that fail."""

import socket
from types import SimpleNamespace

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread

from netsrv.faults.datagram_stage import DatagramStage
from netsrv.faults.stages import Stage
from netsrv.registry import FaultTypes
from netsrv.testing import LoopbackServer
from tests.timeouts import TIMEOUT


class Asking(Protocol):
    """Sends a question; `answer` fires with the answer, or with the end."""

    def __init__(self):
        self.answer = Deferred().addTimeout(TIMEOUT, reactor)

    def connectionMade(self):
        self.transport.write(b"hello")

    def dataReceived(self, data):
        self._fire(data)

    def connectionLost(self, reason):
        self._fire(reason.type)

    def _fire(self, result):
        if not self.answer.called:
            self.answer.callback(result)


async def ask(server):
    """Return the answer on a new connection, or how it has ended."""
    client = await server.connect(Asking())
    return await client.answer


@pytest_twisted.ensureDeferred
async def test_faults_of_a_server_in_the_reactor():
    """The same methods as in memory, on real sockets."""
    async with LoopbackServer(reactor, "echo") as server:
        with server.limit_data(2) as cutting:
            assert await ask(server) == b"he"
        with server.refuse(first=1):
            assert await ask(server) in (ConnectionDone, ConnectionLost)
            assert await ask(server) == b"hello"
        with server.down(), pytest.raises(ConnectError):
            await server.connect(Protocol())
        assert await ask(server) == b"hello"
        assert (cutting.hits, server.hits("refuse")) == (1, 1)


class Failing(Stage):
    """Fails."""

    def data(self, data):
        raise ValueError("a fault of the fault")


class FailingLate(Stage):
    """Fails when its time is over."""

    def data(self, data):
        self.call_later(0, self.fail)

    def fail(self):
        raise ValueError("a fault of the fault")


class FailingDatagrams(DatagramStage):
    """Fails with one datagram."""

    def hit(self, datagram, peer):
        if datagram.data == b"a":
            raise ValueError("a fault of the fault")
        self.pass_on(datagram)
        return True


@pytest.fixture
def plugins(monkeypatch):
    """Return the types that plugins add, to fill them."""
    types = FaultTypes()
    monkeypatch.setattr("netsrv.config.fault_reading.plugin_types", lambda: types)
    return types


def plugin(stage):
    """Return a type of faults."""
    return SimpleNamespace(name="failing", description="", attributes=None, stage=stage)


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
@pytest.mark.parametrize("stage", [Failing, FailingLate])
@pytest_twisted.ensureDeferred
async def test_a_fault_that_raises_ends_its_connection_only(
    stage, stream, plugins, expected_failures
):
    """And no other; the traceback is in the log."""
    plugins.streams["failing"] = plugin(stage)
    async with LoopbackServer(reactor, "echo") as server:
        server.fault("failing", stream=stream, first=1)
        assert await ask(server) != b"hello"
        assert await ask(server) == b"hello"
        assert server.hits("failing") == 1
    expected_failures.append("ValueError")


@pytest.mark.parametrize("latency", [0, 20])
@pytest_twisted.ensureDeferred
async def test_a_fault_of_datagrams_that_raises_loses_its_datagram_only(
    latency, plugins, expected_failures
):
    """The next ones are served, also if another fault has held them."""
    plugins.datagrams["failing"] = plugin(FailingDatagrams)
    async with LoopbackServer(reactor, "echo", "udp") as server:
        server.latency(latency, stream="upstream")
        server.fault("failing", stream="upstream")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.connect((server.host, server.port))
            client.send(b"a")
            client.send(b"b")
            assert await deferToThread(client.recv, 9) == b"b"
    expected_failures.append("ValueError")
