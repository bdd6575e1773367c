"""The reactor: Twisted's reactor for asyncio, on uvloop, with native ports and timers."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import Any

import uvloop
from twisted.internet._signals import _MultiSignalHandling
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.main import CONNECTION_LOST, installReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.log import callWithLogger
from zope.interface import implementer

from netsrv.uvreactor.connecting import ConnectedSocket
from netsrv.uvreactor.connection import Connection
from netsrv.uvreactor.fd_pressure import AcceptWatchdog
from netsrv.uvreactor.interfaces import IReadableWatcher, ISocketServer, IStreamAcceptor
from netsrv.uvreactor.native_acceptor import NativeAcceptor
from netsrv.uvreactor.port import TCPPort, UNIXPort
from netsrv.uvreactor.sigchld import SigchldHandler, watch_child
from netsrv.uvreactor.timers import TimedCalls
from netsrv.uvreactor.writing_connection import log_in_this_thread

if sys.platform == "linux":
    from netsrv.uvreactor.epoll_watcher import WatchingReactor
else:
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor as WatchingReactor

WALL_CLOCK = ReactorBase.seconds
"""The clock of `seconds`, unless a program has replaced that attribute."""


def install() -> None:
    """Make a reactor on uvloop the reactor of this process.

    Its event loop becomes the current one of this thread, for asyncio code that starts before
    the reactor runs.  Raises ReactorAlreadyInstalledError if there is a reactor.
    """
    reactor = UvloopReactor()
    try:
        installReactor(reactor)
    except BaseException:
        reactor.loop.close()
        raise
    asyncio.set_event_loop(reactor.loop)


@implementer(IStreamAcceptor, IReadableWatcher, ISocketServer)
class UvloopReactor(WatchingReactor):
    """Runs on a uvloop event loop of its own.

    Everything else is Twisted's reactor for asyncio: clients, UDP, processes.
    """

    log = Logger()

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.loop.set_exception_handler(self._log_exception)
        self.live: set[Any] = set()
        """The native connections that are open."""
        self.ports: set[Any] = set()
        """The native ports that accept."""
        self.watchdog = AcceptWatchdog(self.loop)
        self._timed_calls = TimedCalls(self.loop, self._turn)
        self._stopping = False
        """True once the loop, which runs, was told to stop: uvloop would keep a second stop."""
        super().__init__(self.loop)

    @property
    def descriptors(self) -> int:
        """The number of descriptors that the reactor watches."""
        return len(self.live) + len(super().getReaders())

    # Ports

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        listening = TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        listening = UNIXPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        listening: Any
        if addressFamily not in self._supportedAddressFamilies:
            raise UnsupportedAddressFamily(addressFamily)
        if addressFamily == socket.AF_UNIX:
            listening = UNIXPort._fromListeningDescriptor(self, fileDescriptor, factory)
        else:
            listening = TCPPort._fromListeningDescriptor(
                self, fileDescriptor, addressFamily, factory
            )
        listening.startListening()
        return listening

    def acceptStreams(
        self,
        sock: socket.socket,
        serve: Callable[[Any, Any], None],
        accept_failed: Callable[[OSError], None],
        listener_failed: Callable[[OSError], None],
        may_accept: Callable[[], bool],
    ) -> Any:
        """Return an acceptor for *sock*; see `IStreamAcceptor`."""
        return NativeAcceptor(self, sock, serve, accept_failed, listener_failed, may_accept)

    def serveConnected(self, sock: socket.socket, protocol: Any) -> Any:
        """Connect *protocol* to a connected socket, in the next turn; see `ISocketServer`."""
        return ConnectedSocket(self, protocol).connect(sock)

    def watchReadable(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Call *ready* while *descriptor* is readable; see `IReadableWatcher`."""
        self.loop.add_reader(descriptor, ready)

    def ignoreReadable(self, descriptor: int) -> None:
        """Watch *descriptor* no longer; see `IReadableWatcher`."""
        self.loop.remove_reader(descriptor)

    def addReader(self, reader: Any) -> None:
        if isinstance(reader, Connection):
            reader.resumeProducing()
        else:
            super().addReader(reader)

    def removeReader(self, reader: Any) -> None:
        if isinstance(reader, Connection):
            reader.pauseProducing()
        else:
            super().removeReader(reader)

    def set_context(self, descriptor: int, context: Context) -> None:
        """Call the reader of *descriptor* in *context*, in which its connection was served."""
        if sys.platform == "linux":
            self._watcher.set_context(descriptor, context)

    def removeAll(self) -> list[Any]:
        native = [*self.ports, *(peer for peer in self.live if peer.reading or peer.writing)]
        for selectable in native:
            selectable.stopReading()
        self.live.difference_update(native)
        return [*native, *super().removeAll()]

    def disconnectAll(self) -> None:
        """Disconnect all, also the connections that are paused, which `removeAll` leaves alone."""
        super().disconnectAll()
        for connection in list(self.live):
            callWithLogger(connection, connection.connectionLost, Failure(CONNECTION_LOST))

    def getReaders(self) -> list[Any]:
        reading = [connection for connection in self.live if connection.reading]
        return [*self.ports, *reading, *super().getReaders()]

    def getWriters(self) -> list[Any]:
        writing = [connection for connection in self.live if connection.writing]
        return [*writing, *super().getWriters()]

    # Time

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002
        *args: Any,
        **kw: Any,
    ) -> DelayedCall:
        if self.seconds is not WALL_CLOCK:
            replaced: DelayedCall = super().callLater(delay, callable, *args, **kw)
            return replaced
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        return self._timed_calls.add(delay, callable, args, kw)

    def getDelayedCalls(self) -> Sequence[Any]:
        return [*self._timed_calls.pending(), *super().getDelayedCalls()]

    def timeout(self) -> float | None:
        timeouts = (self._timed_calls.timeout(), super().timeout())
        return min((seconds for seconds in timeouts if seconds is not None), default=None)

    def _reschedule(self) -> None:
        """Wake up for Twisted's own calls, made while `seconds` was replaced."""
        if super().timeout() is not None:
            super()._reschedule()

    def runUntilCurrent(self) -> None:
        self._timed_calls.run_due()
        super().runUntilCurrent()

    def _turn(self) -> None:
        self.runUntilCurrent()
        self._timed_calls.arm()

    # Threads

    def installWaker(self) -> None:
        """Do nothing: uvloop can be woken without one."""

    def wakeUp(self) -> None:
        self.loop.call_soon_threadsafe(self._turn, context=self._timed_calls.context)

    def callFromThread(  # type: ignore[override]
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        self.threadCallQueue.append((function, args, kwargs))
        self.wakeUp()

    # Processes and signals

    def spawnProcess(self, *args: Any, **kwargs: Any) -> Any:
        process = super().spawnProcess(*args, **kwargs)
        watch_child(self.loop, process)
        return process

    def _signalsFactory(self) -> Any:
        ordinary = super(PosixReactorBase, self)._signalsFactory()
        return _MultiSignalHandling((ordinary, SigchldHandler(self.callFromThread)))

    # The loop

    def run(self, installSignalHandlers: bool = True) -> None:
        log_in_this_thread()
        if threading.current_thread() is not threading.main_thread():
            asyncio.set_event_loop(self.loop)
        self.startRunning(installSignalHandlers=installSignalHandlers)
        self._timed_calls.context = copy_context()
        if self._started:  # nothing that was called at the start has crashed the reactor
            self._run_loop()
        self._justStopped = False

    def iterate(self, delay: float = 0.0) -> None:
        log_in_this_thread()
        self.runUntilCurrent()
        self._timed_calls.arm()
        end = self.loop.call_later(delay or 0.0, self._stop_loop)
        self._run_loop()
        end.cancel()

    def stop(self) -> None:
        super(AsyncioSelectorReactor, self).stop()
        self.wakeUp()

    def crash(self) -> None:
        super(AsyncioSelectorReactor, self).crash()
        self._stop_loop()

    def _run_loop(self) -> None:
        self._stopping = False
        self.loop.run_forever()

    def _stop_loop(self) -> None:
        """Stop the loop once, and only if it runs: uvloop would keep the stop for its next run."""
        if self.loop.is_running() and not self._stopping:
            self._stopping = True
            self.loop.stop()

    def _log_exception(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = context.get("message", "Unhandled error in the event loop")
        if error is None:
            self.log.error("{message}", message=message)
        else:
            self.log.failure("{message}", Failure(error), message=message)
