"""What the control API asks of a server: proxies, which are listeners with the service forward."""

from typing import Any

from attrs import evolve

from netsrv.config.keywords import listener as make_listener
from netsrv.services.forward import ForwardSettings, Upstream, parse_upstream
from netsrv.services.forward_datagrams import ForwardDatagrams
from netsrv.services.forward_streams import ForwardFactory
from netsrv.sockets.addresses import InternetAddress


class ServerProxies:
    """Opens and reopens the listeners of proxies on *server*."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def open_proxy(self, transport: str, host: str, port: int, upstream: str) -> Any:
        """Return a new running listener that forwards to *upstream*, which may be any text."""
        address = f"[{host or '::'}]:{port}" if ":" in (host or "::") else f"{host}:{port}"
        if host in ("", "0.0.0.0"):
            address = f"[::]:{port}"
        settings = ForwardSettings("127.0.0.1:1")
        target = _upstream_of(upstream)
        service: Any = (
            ForwardFactory(settings, target)
            if transport == "tcp"
            else ForwardDatagrams(settings, target)
        )
        name = f"forward to {upstream}"
        own = make_listener(transport, address, service, name=name)  # type: ignore[arg-type]
        return self._server.add_listener(own)

    def reopen(self, listener: Any) -> Any:
        """Return a running listener with the settings of one that was closed, on its port."""
        settings = listener.settings
        if isinstance(settings.address, InternetAddress):
            address = InternetAddress(settings.address.host, listener.port)
            settings = evolve(settings, address=address)
        return self._server.add_listener(settings)

    def now(self) -> float:
        """Return seconds of the server's clock."""
        return float(self._server.now())


def _upstream_of(text: str) -> Upstream:
    """Return an upstream; a text that is no address is one to which nobody can connect."""
    try:
        return parse_upstream(text)
    except ValueError:
        return Upstream(text, 0)
