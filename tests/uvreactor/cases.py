"""What cases of ours share: a reactor that serves, and a peer with plain blocking sockets."""

import socket
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.test.reactormixins import ReactorBuilder

from tests.timeouts import PEER_TIMEOUT as PATIENCE


class Events:
    """What happened, in its order, for a thread that waits for it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._news = threading.Condition()

    def __call__(self, event: Any) -> None:
        """Note that something happened."""
        with self._news:
            self.seen.append(event)
            self._news.notify_all()

    def wait_for(self, event: Any, times: int = 1) -> None:
        """Wait until it has happened so many times."""
        self.wait_until(lambda: self.seen.count(event) >= times, f"no {times} times {event!r}")

    def wait_until(self, come: Callable[[], bool], message: str) -> None:
        """Wait until something is true of what has happened."""
        with self._news:
            if not self._news.wait_for(come, PATIENCE):
                raise AssertionError(f"{message} in {self.seen!r}")


class Recorder(Protocol):
    """Records its calls."""

    def __init__(self, events: Events) -> None:
        self.events = events

    def connectionMade(self):
        self.events("made")

    def dataReceived(self, data):
        self.events(data)

    def connectionLost(self, reason):  # type: ignore[override]
        self.events(reason.type.__name__)


class Made(Factory):
    """Builds protocols with a function of no argument, and keeps them."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.protocols: list[Any] = []
        self.noisy = False

    def buildProtocol(self, addr):
        protocol = self._make()
        if protocol is not None:
            protocol.factory = self
            self.protocols.append(protocol)
        return protocol


class Case(ReactorBuilder):
    """A reactor that runs while a script runs in a thread."""

    def play(self, reactor: Any, script: Callable[[], Any]) -> None:
        """Run the reactor until the script has ended, and raise what the script raised."""
        raised: list[BaseException] = []

        def whole() -> None:
            try:
                script()
            except BaseException as error:
                raised.append(error)
            finally:
                reactor.callFromThread(reactor.stop)

        reactor.callWhenRunning(reactor.callInThread, whole)
        self.runReactor(reactor)
        if raised:
            raise raised[0]

    def serve(self, make: Callable[[], Any], script: Callable[[int], Any]) -> Any:
        """Serve on TCP while *script* runs with the number of the port; return the factory."""
        reactor = self.buildReactor()
        factory = Made(make)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.play(reactor, lambda: script(port.getHost().port))
        return factory


def connect(port: int, family: int = socket.AF_INET) -> socket.socket:
    """Connect to a port of loopback."""
    sock = socket.socket(family)
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", port))
    return sock


def in_reactor(reactor: Any, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call something in the thread of the reactor; return what it returned, or raise it."""
    from twisted.internet.threads import blockingCallFromThread

    return blockingCallFromThread(reactor, call, *arguments)
