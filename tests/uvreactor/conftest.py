"""A uvloop reactor of a test's own, and what is served on it."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from netsrv.uvreactor.reactor import UvloopReactor
from tests.uvreactor.peer import PATIENCE, Peer


class Runner:
    """Runs a reactor, not that of the tests, until something has happened."""

    def __init__(self) -> None:
        self.reactor = UvloopReactor()

    def until(self, happened: Callable[[], Any]) -> Any:
        """Run until *happened* returns something true, and return that."""
        deadline = time.monotonic() + PATIENCE
        while not (result := happened()):
            assert time.monotonic() < deadline, "what is waited for does not happen"
            self.reactor.iterate(0.005)
        return result

    def turns(self, number: int = 5) -> None:
        """Run *number* turns, so that everything that is due happens."""
        for _ in range(number):
            self.reactor.iterate(0)


class Recorder(Protocol):
    """Records its calls; *script* may name functions of the protocol to call then."""

    def __init__(self, script: dict[str, Callable[..., Any]]) -> None:
        self.script = script
        self.received = b""
        self.calls: list[str] = []
        self.reason: Any = None

    def connectionMade(self) -> None:
        self._record("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._record("data", data)

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        self.reason = reason.value
        self._record("lost")

    def _record(self, what: str, *arguments: Any) -> None:
        if what != "data" or what not in self.calls:
            self.calls.append(what)
        self.script.get(what, lambda *_: None)(self, *arguments)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """Supports half-closed connections too."""

    def readConnectionLost(self) -> None:
        self._record("read lost")

    def writeConnectionLost(self) -> None:
        self._record("write lost")


class Served(Factory):
    """Builds recorders, and remembers them."""

    noisy = False

    def __init__(self, kind: type[Recorder], script: dict[str, Callable[..., Any]]) -> None:
        self.kind = kind
        self.script = script
        self.built: list[Recorder] = []
        self.addresses: list[Any] = []

    def buildProtocol(self, addr: Any) -> Recorder:
        self.addresses.append(addr)
        self.built.append(self.kind(self.script))
        return self.built[-1]


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A reactor that is not running, and is gone at the end."""
    runner = Runner()
    yield runner
    runner.reactor.disconnectAll()
    runner.turns()
    runner.reactor.loop.close()


@pytest.fixture
def served(runner: Runner) -> Iterator[Callable[..., tuple[Peer, Recorder]]]:
    """Serve one connection: return its client and the protocol that serves it."""
    peers: list[Peer] = []

    def serve(
        kind: type[Recorder] = Recorder, interface: str = "127.0.0.1", **script: Any
    ) -> tuple[Peer, Recorder]:
        factory = Served(
            kind, {name.replace("_", " "): function for name, function in script.items()}
        )
        port = runner.reactor.listenTCP(0, factory, interface=interface)
        peers.append(Peer(runner, port.getHost().host, port.getHost().port))
        runner.until(lambda: factory.built and factory.built[0].calls)
        return peers[-1], factory.built[0]

    yield serve
    for peer in peers:
        peer.sock.close()
