"""The control server: its listeners, from the start of the server to the end of its drain."""

from collections.abc import Callable
from typing import Any

from netsrv.config.control import ControlSettings
from netsrv.control.api import Api
from netsrv.control.opening import PreparedControl, checked_token
from netsrv.control.site import ControlFactory, ControlSite
from netsrv.observers.dispatch import ObserverDispatcher
from netsrv.observers.line_rate import LineRate
from netsrv.observers.log import LogObserver
from netsrv.status.access import AccessRules
from netsrv.status.http_listener import LOG_RATE, HttpListener


class ControlService:
    """Serves *api* on the sockets of *prepared*, until `stop`.

    *now* returns seconds of a monotonic clock.
    """

    def __init__(
        self, reactor: Any, prepared: PreparedControl, api: Api, now: Callable[[], float]
    ) -> None:
        self._prepared = prepared
        self._rate = LineRate(reactor, LOG_RATE)
        observer = ObserverDispatcher([LogObserver(self._rate)])
        self._site = ControlSite(api, self._rules(prepared.settings, prepared.token))
        self._listeners = [
            HttpListener(reactor, opened, ControlFactory(self._site), "control", observer, now)
            for opened in prepared.sockets
        ]

    def stop(self) -> None:
        """Close the listeners and the connections."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._rate.close()

    @property
    def urls(self) -> list[str]:
        """Where the API is served, as a client takes it."""
        return [listener.url for listener in self._listeners]

    def read_token(self, settings: ControlSettings) -> str | None:
        """Return the token for other *settings*.  Raises `ConfigurationError`."""
        if settings.address is None:
            return self._prepared.token
        return checked_token(settings, self._prepared.sockets[0])

    def update(self, settings: ControlSettings, token: str | None) -> list[str]:
        """Use other settings; return the names of those that need a restart."""
        if settings.address is not None:
            self._site.rules = self._rules(settings, token)
        before = self._prepared.settings
        names = ("address", "unix_mode")
        return [name for name in names if getattr(settings, name) != getattr(before, name)]

    def _rules(self, settings: ControlSettings, token: str | None) -> AccessRules:
        is_unix = not self._prepared.sockets[0].host
        return AccessRules(token, settings.hosts, is_unix, "[control] hosts")
