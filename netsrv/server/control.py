"""The control API of a server, and what it asks of the server: proxies, which are listeners."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from netsrv import __version__
from netsrv.config.control import ControlSettings
from netsrv.config.keywords import listener as make_listener
from netsrv.control.opening import PreparedControl
from netsrv.server.announcements import Announcement
from netsrv.services.forward import ForwardSettings, Upstream, parse_upstream

if TYPE_CHECKING:
    from netsrv.control.service import ControlService


class ServerControl:
    """The control API of *server*, where it has one; *now* is the server's clock."""

    def __init__(self, reactor: Any, server: Any, now: Callable[[], float]) -> None:
        self._reactor = reactor
        self._server = server
        self._now = now
        self._service: ControlService | None = None

    def start(self, prepared: PreparedControl) -> None:
        """Serve on the sockets that are open."""
        if prepared.sockets:
            from netsrv.control.api import Api  # twisted.web takes 100 ms to import
            from netsrv.control.proxies import Proxies
            from netsrv.control.service import ControlService

            api = Api(Proxies(ServerProxies(self._server, self._now)), __version__)
            self._service = ControlService(self._reactor, prepared, api, self._now)

    def stop(self) -> None:
        """Stop serving."""
        if self._service is not None:
            self._service.stop()
            self._service = None

    @property
    def urls(self) -> list[str]:
        """Where the API is served, while it is."""
        return self._service.urls if self._service is not None else []

    def announcements(self) -> Iterator[Announcement]:
        """Yield a line of the log for each address."""
        for url in self.urls:
            yield "Serving control on {url}: its clients change faults", {"url": url}

    def read_token(self, settings: ControlSettings) -> str | None:
        """Return the token for other *settings*.  Raises `ConfigurationError`."""
        return None if self._service is None else self._service.read_token(settings)

    def update(self, settings: ControlSettings, token: str | None) -> list[str]:
        """Use other settings; return a line for each that needs a restart."""
        names = ["address"] if settings.address is not None else []
        if self._service is not None:
            names = self._service.update(settings, token)
        return [f"control.{name} changes with a restart" for name in names]


class ServerProxies:
    """Opens the listeners of proxies on *server*; *now* is its clock."""

    def __init__(self, server: Any, now: Callable[[], float]) -> None:
        self._server = server
        self.now = now

    @property
    def listeners(self) -> list[Any]:
        """The running listeners of the server."""
        return self._server.listeners  # type: ignore[no-any-return]

    def open_proxy(self, transport: str, host: str, port: int, upstream: str) -> Any:
        """Return a new running listener that forwards to *upstream*, which may be any text."""
        from netsrv.services.forward_datagrams import ForwardDatagrams
        from netsrv.services.forward_streams import ForwardFactory

        host = "::" if host in ("", "0.0.0.0") else host
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        settings, target = ForwardSettings("127.0.0.1:1"), _upstream_of(upstream)
        service: Any = ForwardFactory if transport == "tcp" else ForwardDatagrams
        return self._server.add_listener(
            make_listener(
                transport,  # type: ignore[arg-type]
                address,
                service(settings, target),
                name=f"forward to {upstream}",
            )
        )


def _upstream_of(text: str) -> Upstream:
    """Return an upstream; a text that is no address is one to which no connection is possible."""
    try:
        return parse_upstream(text)
    except ValueError:
        return Upstream(text, 0)
