"""The server: the only place that puts everything together, and takes it apart again.

A start has two steps: `netsrv.server.prepare` opens every socket, without a reactor; then
the `Server` here serves on them.
"""

import resource
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from attrs import evolve, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from netsrv import __version__
from netsrv.config.model import Configuration, ListenerSettings
from netsrv.config.readers import listener
from netsrv.files import LogFile
from netsrv.guards.capacity import ConnectionSlots
from netsrv.interfaces import IObserver
from netsrv.observers.accesslog import AccessLog
from netsrv.observers.counters import Counters
from netsrv.observers.dispatch import ObserverDispatcher
from netsrv.observers.log import LogObserver
from netsrv.observers.waiter import ConnectionWaiter
from netsrv.registry import Registry, find_services
from netsrv.server.info import report
from netsrv.server.listeners import Post, Roster
from netsrv.server.prepare import Prepared, PreparedListener, open_access_log, prepare
from netsrv.server.reload import addition, plan
from netsrv.server.watchdog import StallDetector
from netsrv.sockets.addresses import InternetAddress
from netsrv.sockets.opening import OpenSocket

__all__ = ["Drained", "Server", "listener", "max_connections_for"]

RESERVE = 64
"""Descriptors that connections leave to everything else."""

FD_SETSIZE = 1024


def max_connections_for(reactor: Any) -> int:
    """How many connections the process has descriptors for (getrlimit(2)).

    The select reactor cannot watch descriptors from FD_SETSIZE, 1,024, on (select(2)).
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if type(reactor).__module__ == "twisted.internet.selectreactor":
        soft = min(soft, FD_SETSIZE)
    return max(1, soft - RESERVE)


@frozen
class Drained:
    """How a drain went: connections that ended, and those that had to be aborted."""

    ended: int
    aborted: int


class Server(Service):
    """Serves a configuration.  An `IService`, on its own or with a parent.

    *reactor* provides IReactorTime, IReactorFDSet and IReactorSocket.  *configuration* may
    as well be the listeners alone, each made by `listener`.  *prepared* is what `prepare`
    gave; without it, sockets are opened by `startService`, which then raises what
    `prepare` does.  *observers* are told of everything, beside ours.  *now* gives seconds
    that never go back.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration | Iterable[ListenerSettings],
        prepared: Prepared | None = None,
        observers: Iterable[IObserver] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(configuration, Configuration):
            configuration = Configuration(tuple(configuration))
        self.configuration = configuration
        self.aborted = 0
        """Connections that had to be aborted at the end."""
        self.counters = Counters()
        self.audience = ObserverDispatcher([self.counters, *observers])
        """All who observe; more may be added, and removed, at any time."""
        self._reactor = reactor
        self._prepared = prepared
        self._roster = Roster(
            reactor, self.audience, ConnectionSlots(max_connections_for(reactor)), now
        )
        self._pulse = StallDetector(reactor, now, self._stalled)
        self._log_observer: LogObserver | None = None
        self._access_log: AccessLog | None = None
        self._news: list[tuple[str, dict[str, str]]] = []
        self._serving = False
        self._draining = 0
        self._hurry = False

    @property
    def posts(self) -> list[Post]:
        """The listeners, in the configuration's order at the start, later ones last."""
        return list(self._roster.posts)

    @property
    def sockets(self) -> list[OpenSocket]:
        """The sockets of the listeners, in the order of `posts`."""
        return [each.prepared.socket for each in self._roster.posts]

    @property
    def connections(self) -> int:
        """How many connections are being served."""
        return self._roster.connections

    # The start

    def startService(self) -> None:
        """Start all listeners, or none: what one of them raises is raised here."""
        if self._serving or self._draining:
            raise RuntimeError("the server is running; wait for what stopService has given")
        prepared = self._prepared or prepare(self.configuration)
        self._prepared = None
        self.aborted = 0
        self._hurry = False
        for problem in prepared.problems:
            self.log.warn("{problem}", problem=problem)
        self._watch(prepared.access_log)
        try:
            for each in prepared.listeners:
                self._roster.add(each)
        except BaseException:
            for post in self.posts:
                post.listener.suspend()  # who waits was never served, and is not now
                self._roster.remove(post)
            prepared.close()
            self._unwatch()
            raise
        super().startService()
        self._serving = True
        self._pulse.start()
        self._announce(self.posts)

    def _watch(self, access_log: LogFile | None) -> None:
        """Begin to log what happens to peers."""
        self._log_observer = LogObserver(self._reactor, self.configuration.log_rate)
        self.audience.add(self._log_observer)
        self._open_access_log(access_log)

    def _open_access_log(self, file: LogFile | None) -> None:
        self._close_access_log()
        if file is not None:
            datagrams = self.configuration.access_log_datagrams
            self._access_log = AccessLog(self._reactor, file, datagrams)
            self.audience.add(self._access_log)

    def _close_access_log(self) -> None:
        if self._access_log is not None:
            self.audience.remove(self._access_log)
            self._access_log.close()
            self._access_log = None

    def _unwatch(self) -> None:
        self._close_access_log()
        if self._log_observer is not None:
            self.audience.remove(self._log_observer)
            self._log_observer.close()
            self._log_observer = None

    # The end

    def stopService(self) -> Deferred[None]:
        """Drain, for as long as the configuration says: see `drain`."""
        super().stopService()
        return self.drain(self.configuration.shutdown_timeout).addCallback(lambda _drained: None)

    def drain(self, timeout: float) -> Deferred[Drained]:
        """Fire when the live connections have ended, or are aborted after *timeout* seconds.

        Who waits by now is taken in, and then all listeners are closed before
        anybody is waited for.
        """
        self._news = []
        self._serving = False
        self._draining += 1
        self._pulse.stop()
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None
        for post in self.posts:
            self._roster.remove(post)
        left, aborted_before = self.connections, self.aborted
        limit = 0 if self._hurry else timeout
        if left:
            self.log.info(
                "Draining: {left}, at most {limit:g} s; a second signal ends it now",
                left=_connections(left),
                limit=limit,
            )
        deadline = self._reactor.callLater(limit, self._abort)

        def ended(_result: Any) -> Drained:
            if deadline.active():
                deadline.cancel()
            aborted = self.aborted - aborted_before
            if left:
                self.log.info(
                    "Drained: {ended} ended, {aborted} aborted",
                    ended=_connections(left - aborted),
                    aborted=aborted,
                )
            self._draining -= 1
            if not self._draining:
                self._unwatch()
            return Drained(left - aborted, aborted)

        return DeferredList([gate.when_empty() for gate in self._roster.gates]).addCallback(ended)

    def abort(self) -> None:
        """End a drain now, also one that is yet to come: abort the connections that are left."""
        self._hurry = True
        self._abort()

    def _abort(self) -> None:
        self.aborted += sum(gate.abort_all() for gate in self._roster.gates)

    def _stalled(self, seconds: float) -> None:
        self.audience.stalled(seconds)

    # While it runs

    def post(self, settings: ListenerSettings) -> Post:
        """The running listener that was made of *settings*: its address in effect, its peers.

        Raises LookupError if there is none.
        """
        alike = [each for each in self.posts if each.prepared.settings == settings]
        same = [each for each in alike if each.prepared.settings is settings]
        for found in same or alike:
            return found
        raise LookupError(f"{settings.address_label} is not among the listeners that are running")

    def add_listener(self, settings: ListenerSettings) -> Post:
        """Serve one more listener from now on; the others are not touched.

        Raises `ConfigurationError`, `netsrv.sockets.SocketError` or what its factory's start
        does, and then nothing has changed; RuntimeError unless the server is running.
        """
        if not self._serving:
            raise RuntimeError("the server is not running; give it its listeners when it is made")
        registry = Registry() if settings.embedded else find_services()
        prepared = addition(settings, self.posts, registry)
        try:
            post = self._roster.add(prepared)
        except BaseException:
            prepared.socket.close()
            raise
        self._listeners_are_those_that_run()
        self._announce([post])
        return post

    def remove_listener(self, settings: ListenerSettings) -> Deferred[None]:
        """Close a listener; fire when the last of its connections has ended.

        Who waits by now is taken in; the other listeners are not touched.  Raises
        LookupError if there is no such listener.
        """
        post = self.post(settings)
        ended = self._roster.remove(post)
        self._listeners_are_those_that_run()
        self._tell_closed(post)
        return ended

    def _listeners_are_those_that_run(self) -> None:
        running = tuple(each.prepared.settings for each in self.posts)
        self.configuration = evolve(self.configuration, listeners=running)

    def suspend(self) -> None:
        """Take nobody in.  The sockets stay open: newcomers wait in the kernel."""
        self._roster.suspend()

    def resume(self) -> None:
        """Take in again, those who have waited first."""
        self._roster.resume()

    def wait_for_connections(self, wanted: Callable[[int], bool]) -> Deferred[int]:
        """Fire with the number of live connections, as soon as *wanted* is true of it."""
        return ConnectionWaiter(self.audience, lambda: self.connections, wanted).result

    def reload(self, configuration: Configuration, registry: Registry | None = None) -> None:
        """Serve another configuration from now on, as a whole or not at all.

        A listener is the same if its transport and address are: its socket stays open.
        Live connections keep what they have.  Raises `ConfigurationError` or
        `netsrv.sockets.SocketError`, and then nothing has changed; and RuntimeError if the
        server does not serve.
        """
        if not self._serving:
            raise RuntimeError("the server is not running")
        registry = registry or find_services()
        change = plan(configuration, self.posts, registry)
        try:
            new_log = configuration.access_log != self.configuration.access_log
            access_log = open_access_log(configuration) if new_log else None
        except BaseException:
            change.undo()
            raise
        self.configuration = configuration
        serving, problems = change.apply(self._roster)
        if self._log_observer is not None:
            self._log_observer.rate = configuration.log_rate
        if new_log:
            self._open_access_log(access_log)
        elif self._access_log is not None:
            self._access_log.datagrams = configuration.access_log_datagrams
        for post in change.removed:
            self._tell_closed(post)
        for problem in (*registry.problems, *problems):
            self.log.warn("{problem}", problem=problem)
        self.log.info(
            "Reloaded: {kept} listeners as before, {changed} changed, {added} added, {gone} closed",
            kept=len(change.kept),
            changed=len(change.changed),
            added=len(change.added),
            gone=len(change.removed),
        )
        self._announce(serving)

    def _tell_closed(self, post: Post) -> None:
        left = _connections(post.connections)
        self.log.info("Closed {name}; {left} may go on", name=post.name, left=left)

    def reopen_files(self) -> None:
        """Open the access log again under its name: it was moved away."""
        if self._access_log is not None:
            self._access_log.reopen()

    def info(self) -> dict[str, Any]:
        """Describe the server: plain values, ready for JSON."""
        access_log = self._access_log.file if self._access_log else None
        return {
            "version": __version__,
            "reactor": type(self._reactor).__name__,
            "connections": self.connections,
            "listeners": [report(post, self.counters) for post in self.posts],
            "access_log": access_log and {"path": access_log.path, "dropped": access_log.dropped},
            "stalls": self.counters.stalls,
            "stalled_seconds": self.counters.stalled_seconds,
        }

    # What the log says of listeners

    def _announce(self, posts: list[Post]) -> None:
        """Say who is waited for, once signals are handled: who has read it may send one."""
        self._news += [news for each in posts for news in _announcement(each.prepared)]
        self._reactor.callWhenRunning(self._tell_news)

    def _tell_news(self) -> None:
        news, self._news = self._news, []
        for line, values in news:
            self.log.info(line, **values)


def _announcement(prepared: PreparedListener) -> Iterator[tuple[str, dict[str, str]]]:
    """Say what a name was resolved to, and who is waited for."""
    asked, found = prepared.settings.address, prepared.socket.host
    if isinstance(asked, InternetAddress) and asked.host not in ("", found):
        yield "{asked} is {found}", {"asked": asked.host, "found": found}
    what = "datagrams" if prepared.settings.transport == "udp" else "connections"
    yield "Waiting for {what} on {name}", {"what": what, "name": prepared.name}


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"
