"""The status server: its listeners, the history that it keeps, and its end.

Its listeners are none of those that it reports on: they have gates, slots and limits of their
own, and answer also when no other listener accepts.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from twisted.logger import Logger

from netsrv.config.status import StatusSettings
from netsrv.in_thread import call_in_thread
from netsrv.observers.dispatch import ObserverDispatcher
from netsrv.observers.line_rate import LineRate
from netsrv.observers.log import LogObserver
from netsrv.sockets.opening import OpenSocket
from netsrv.status.access import AccessRules
from netsrv.status.channel import StatusFactory
from netsrv.status.history import INTERVAL, History
from netsrv.status.http_listener import LOG_RATE, HttpListener
from netsrv.status.opening import PreparedStatus, checked_token
from netsrv.status.recent import MAX_ENTRIES, Recent, keep_recent
from netsrv.status.site import HealthSite, StatusSite
from netsrv.status.source import Sample, StatusSource

MAX_SAMPLING_SHARE = 0.005
"""The part of the time that samples may take; with very many connections they come later."""


class StatusService:
    """Serves the status of *source* from `start` to `stop`.

    *prepared* has the open sockets.  *observers* are those of the server that the status is
    about; *now* returns seconds of a monotonic clock.  *recent* has the last events, if it is not
    to keep them itself.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        prepared: PreparedStatus,
        source: StatusSource,
        observers: ObserverDispatcher,
        now: Callable[[], float],
        recent: Mapping[str, Recent] | None = None,
    ) -> None:
        self.history = History()
        self._reactor = reactor
        self._prepared = prepared
        self._source = source
        self._observers = observers
        self._now = now
        self._rate = LineRate(reactor, LOG_RATE)
        self._log_observer = ObserverDispatcher([LogObserver(self._rate)])
        self._recent = keep_recent(reactor) if recent is None else recent
        self._listeners: list[HttpListener] = []
        self._site: StatusSite | None = None
        self._sampling: Any = None

    def start(self) -> None:
        """Serve; the first row of the history comes in a second."""
        prepared = self._prepared
        if prepared.status is not None:
            rules = self._rules(prepared.settings, prepared.token)
            self._site = StatusSite(
                self._source,
                rules,
                prepared.files,
                self._more,
                partial(call_in_thread, self._reactor),
            )
            self._listen(prepared.status, self._site, "status")
            for recent in self._recent.values():
                recent.start(self._observers)
            self._take_sample()
        if prepared.health is not None:
            self._listen(prepared.health, HealthSite(self._source), "health")

    def stop(self) -> None:
        """Close the listeners and the connections."""
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
        for recent in self._recent.values():
            recent.stop()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._rate.close()

    @property
    def urls(self) -> dict[str, str]:
        """Where ``status`` and ``health`` are served, as a browser or a client takes it."""
        return {listener.service: listener.url for listener in self._listeners}

    def read_token(self, settings: StatusSettings) -> str | None:
        """Return the token for other *settings*.  Raises `ConfigurationError`."""
        if self._prepared.status is None or settings.address is None:
            return self._prepared.token
        return checked_token(settings, self._prepared.status)

    def update(self, settings: StatusSettings, token: str | None) -> list[str]:
        """Use other settings; return the names of those that need a restart."""
        if self._site is not None and settings.address is not None:
            self._site.rules = self._rules(settings, token)
        before = self._prepared.settings
        names = ("address", "health", "unix_mode")
        return [name for name in names if getattr(settings, name) != getattr(before, name)]

    def _rules(self, settings: StatusSettings, token: str | None) -> AccessRules:
        opened = self._prepared.status
        return AccessRules(token, settings.hosts, any_name=opened is None or not opened.host)

    def _listen(self, opened: OpenSocket, site: HealthSite, service: str) -> None:
        listener = HttpListener(
            self._reactor, opened, StatusFactory(site), service, self._log_observer, self._now
        )
        self._listeners.append(listener)

    def _more(self, since: int) -> Mapping[str, Any]:
        """Return the keys of the status that are not in a snapshot."""
        recent = {
            name: observer.entries(self._source.id_of) for name, observer in self._recent.items()
        }
        events = sorted([*recent["events"], *self._source.reload_events()], key=itemgetter("time"))
        recent["events"] = events[-MAX_ENTRIES:]
        return {"recent": recent, "history": self.history.as_plain(since)}

    # The history

    def _take_sample(self) -> None:
        self._sampling = None
        began = self._now()
        samples = self._source.take_samples()
        samples.addCallback(self._add_sample, began)
        samples.addErrback(lambda failure: self.log.failure("No sample of the status", failure))

    def _add_sample(self, samples: Sequence[Sample], began: float) -> None:
        self.history.add(samples, time.time(), began, self._source.lag)
        if not self._listeners:
            return  # it has ended meanwhile
        wait = max(INTERVAL, (self._now() - began) / MAX_SAMPLING_SHARE)
        self._sampling = self._reactor.callLater(wait, self._take_sample)
