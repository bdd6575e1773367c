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
    """Runs a reactor, which is not the one of the tests, until something has happened."""

    def __init__(self) -> None:
        self.reactor = UvloopReactor()

    def until(self, happened: Callable[[], Any]) -> Any:
        """Run until *happened* gives something true, and give that."""
        deadline = time.monotonic() + PATIENCE
        while not (result := happened()):
            assert time.monotonic() < deadline, "what is waited for does not happen"
            self.reactor.iterate(0.005)
        return result

    def turns(self, number: int = 5) -> None:
        """Let everything happen that can happen by now."""
        for _ in range(number):
            self.reactor.iterate(0)


class Recorder(Protocol):
    """Remembers what it is told; *script* may name functions of the protocol to call then."""

    def __init__(self, script: dict[str, Callable[..., Any]]) -> None:
        self.script = script
        self.received = b""
        self.told: list[str] = []
        self.reason: Any = None

    def connectionMade(self) -> None:
        self._tell("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._tell("data", data)

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        self.reason = reason.value
        self._tell("lost")

    def _tell(self, what: str, *arguments: Any) -> None:
        if what != "data" or what not in self.told:
            self.told.append(what)
        self.script.get(what, lambda *_: None)(self, *arguments)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """Knows half-closed connections too."""

    def readConnectionLost(self) -> None:
        self._tell("read lost")

    def writeConnectionLost(self) -> None:
        self._tell("write lost")


class Served(Factory):
    """Builds recorders, and keeps them."""

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
    """Serve one connection: give its client and the protocol that serves it."""
    peers: list[Peer] = []

    def serve(
        kind: type[Recorder] = Recorder, interface: str = "127.0.0.1", **script: Any
    ) -> tuple[Peer, Recorder]:
        factory = Served(kind, {name.replace("_", " "): each for name, each in script.items()})
        port = runner.reactor.listenTCP(0, factory, interface=interface)
        peers.append(Peer(runner, port.getHost().host, port.getHost().port))
        runner.until(lambda: factory.built and factory.built[0].told)
        return peers[-1], factory.built[0]

    yield serve
    for each in peers:
        each.sock.close()
