"""The proxies of the API: listeners with the service forward, and the server's own listeners."""

import errno
import os
import re
from collections.abc import Iterator
from typing import Any, Protocol

from netsrv.config.fault_reading import find_kinds
from netsrv.config.model import ConfigurationError
from netsrv.control.listening import ListenError, parse_listen, resolve, show_listen
from netsrv.control.toxics import show_toxic
from netsrv.faults.fault import Direction, FaultSettings
from netsrv.faults.kinds import DATAGRAM_KINDS, STREAM_KINDS, FaultKind
from netsrv.interfaces import CloseReason
from netsrv.sockets.steps import SocketError

UPSTREAM = Direction.UPSTREAM

DISABLED = "disabled"
"""The name of the fault that takes a listener of the server down while its proxy is disabled."""


class ProxyError(Exception):
    """A proxy cannot do what it is asked; *status* is that of HTTP."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class ProxyServer(Protocol):
    """What the API needs of a server."""

    @property
    def listeners(self) -> list[Any]:
        """The running listeners, each a `netsrv.server.listeners.RunningListener`."""

    def open_proxy(self, transport: str, host: str, port: int, upstream: str) -> Any:
        """Return a new running listener that forwards to *upstream*."""

    def now(self) -> float:
        """Return seconds of a monotonic clock."""


class Proxy:
    """A proxy: a listener that may be there or not, and its faults, which outlive the listener."""

    fixed = False
    """True if its addresses are those of the server's configuration."""

    def __init__(self, server: ProxyServer, name: str, listen: str, upstream: str, udp: bool):
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.udp = udp
        self.listener: Any = None
        """The running listener while the proxy is enabled; None while it is not."""
        self.faults: dict[str, FaultSettings] = {}
        """The faults in the order in which they were added."""
        self.streams: dict[str, str] = {}
        """The streams of faults as clients have written them: ``UPSTREAM``."""
        self._server = server

    @property
    def enabled(self) -> bool:
        """True if the proxy listens."""
        return self.listener is not None

    def find_kind(self, name: str) -> FaultKind | None:
        """Return the kind of faults of a name, if the proxy takes it."""
        of_streams, of_datagrams = find_kinds(name)
        return of_datagrams if self.udp else of_streams

    def enable(self) -> None:
        """Listen.  Raises `ProxyError` if that is not possible."""
        if self.listener is not None:
            return
        try:
            host, port = parse_listen(self.listen)
        except ListenError as error:
            raise ProxyError(f"listen tcp: {error}", 500) from None
        transport = "udp" if self.udp else "tcp"
        try:
            self.listener = self._server.open_proxy(transport, resolve(host), port, self.upstream)
        except (SocketError, ConfigurationError, OSError, RuntimeError) as error:
            text = f"listen {transport} {self.listen}: bind: {_reason_of(error)}"
            raise ProxyError(text, 500) from error
        self.listen = show_listen(self.listener.host, self.listener.port)
        for fault in self.faults.values():
            self.listener.faults.add(fault)

    def disable(self) -> None:
        """Stop listening, and end all connections."""
        listener, self.listener = self.listener, None
        if listener is not None:
            connections = list(listener.gate.connections)
            listener.close()
            for connection in connections:
                connection.end(CloseReason.FAULT)

    def add_fault(self, fault: FaultSettings) -> None:
        """Add a fault.  Raises `ProxyError` if its name is taken."""
        if fault.name in self.faults:
            raise ProxyError("toxic already exists", 409)
        self.faults[fault.name] = fault
        if self.listener is not None:
            self.listener.faults.add(fault)

    def update_fault(self, fault: FaultSettings) -> None:
        """Change the attributes and the probability of the fault of this name."""
        self.faults[fault.name] = fault
        if self.listener is not None:
            self.listener.faults.update(fault.name, fault.attributes, fault.probability)

    def remove_fault(self, name: str) -> None:
        """Remove a fault."""
        self.faults.pop(name, None)
        self.streams.pop(name, None)
        if self.listener is not None and name in self.listener.faults.faults:
            self.listener.faults.remove(name)

    def refresh(self) -> None:
        """Forget faults whose time is over."""
        if self.listener is not None:
            in_effect = self.listener.faults.faults
            for name in [name for name in self.faults if name not in in_effect]:
                del self.faults[name]

    def ordered_faults(self) -> list[FaultSettings]:
        """Return the faults as toxiproxy lists them: upstream first, then the others."""
        faults = list(self.faults.values())
        return sorted(faults, key=lambda fault: UPSTREAM not in fault.directions)

    def show_fault(self, fault: FaultSettings) -> dict[str, Any]:
        """Return the object of a fault."""
        in_effect = None if self.listener is None else self.listener.faults.faults.get(fault.name)
        shown = show_toxic(fault, in_effect, self._server.now())
        return shown | {"stream": self.streams.get(fault.name, shown["stream"])}

    def show(self) -> dict[str, Any]:
        """Return the object of the proxy."""
        self.refresh()
        shown = {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            "toxics": [self.show_fault(fault) for fault in self.ordered_faults()],
        }
        return shown | {"protocol": "udp"} if self.udp else shown

    def connections(self) -> list[tuple[dict[str, Any], Any]]:
        """Return the object of each live connection, and the connection."""
        if self.listener is None:
            return []
        gate, table = self.listener.gate, self.listener.faults
        now = gate.now()
        return [
            (
                {
                    "id": connection.peer,
                    "received": connection.received,
                    "sent": connection.sent,
                    "seconds": round(now - connection.permit.since, 6),
                    "toxics": table.names_hitting(connection),
                    **(connection.details or {}),
                },
                connection,
            )
            for connection in gate.connections
        ]


class OwnListener(Proxy):
    """A listener of the server's configuration, as a proxy; disabled, it is taken down."""

    fixed = True

    def __init__(self, server: ProxyServer, name: str, listener: Any) -> None:
        settings = listener.settings
        address = show_listen(listener.host, listener.port) if listener.host else listener.name
        udp = not settings.transport.is_stream
        super().__init__(server, name, address, settings.service_name, udp)
        self.listener = listener
        self.refresh()

    @property
    def enabled(self) -> bool:
        """True if the listener is not taken down."""
        return DISABLED not in self.listener.faults.faults

    def enable(self) -> None:
        """Let the listener go on."""
        if not self.enabled:
            self.listener.faults.remove(DISABLED)

    def disable(self) -> None:
        """Take the listener down, and end all connections."""
        if self.enabled:
            down = (DATAGRAM_KINDS if self.udp else STREAM_KINDS)["down"]
            self.listener.faults.add(FaultSettings(down, DISABLED, down.attributes()))

    def add_fault(self, fault: FaultSettings) -> None:
        """Add a fault.  Raises `ProxyError` if its name is taken, as `DISABLED` always is."""
        if fault.name == DISABLED:
            raise ProxyError("toxic already exists", 409)
        super().add_fault(fault)

    def refresh(self) -> None:
        """Show the faults in effect, also those of the configuration."""
        in_effect = self.listener.faults.faults.items()
        self.faults = {name: fault.settings for name, fault in in_effect if name != DISABLED}


def _reason_of(error: BaseException) -> str:
    """Return the text of an error of binding as Go has it."""
    number = getattr(error, "errno", None) or getattr(error.__cause__, "errno", None)
    if number is None and getattr(error, "in_use", False):
        number = errno.EADDRINUSE
    return os.strerror(number).lower() if number else str(error)


class Proxies:
    """The proxies by name: those of the API, and the listeners of the server."""

    def __init__(self, server: ProxyServer) -> None:
        self._server = server
        self._proxies: dict[str, Proxy] = {}

    def _present(self) -> dict[str, Proxy]:
        """Return the proxies by name, with the listeners that the server has now."""
        proxies, running = self._proxies, self._server.listeners
        for name, proxy in list(proxies.items()):
            if proxy.fixed and proxy.listener not in running:
                del proxies[name]
        shown = {id(proxy.listener) for proxy in proxies.values()}
        for listener in running:
            if id(listener) not in shown:
                name = next(name for name in _names(listener) if name not in proxies)
                proxies[name] = OwnListener(self._server, name, listener)
        return proxies

    def __iter__(self) -> Iterator[Proxy]:
        return iter(list(self._present().values()))

    def __contains__(self, name: str) -> bool:
        return name in self._present()

    def get(self, name: str) -> Proxy:
        """Return a proxy.  Raises `ProxyError` if there is none of this name."""
        try:
            return self._present()[name]
        except KeyError:
            raise ProxyError("proxy not found", 404) from None

    def create(self, name: str, listen: str, upstream: str, udp: bool) -> Proxy:
        """Return a new proxy, which is not enabled yet and not among the proxies."""
        return Proxy(self._server, name, listen, upstream, udp)

    def add(self, proxy: Proxy, enabled: bool) -> None:
        """Add a proxy.  Raises `ProxyError` if it has to listen and cannot."""
        if enabled:
            proxy.enable()
        self._proxies[proxy.name] = proxy

    def remove(self, proxy: Proxy) -> None:
        """Disable a proxy, and forget it.  Raises `ProxyError` for a listener of the server."""
        if proxy.fixed:
            raise ProxyError(f"{proxy.name} is a listener of the server: disable it instead", 409)
        proxy.disable()
        self._proxies.pop(proxy.name, None)


def _names(listener: Any) -> Iterator[str]:
    """Yield names for a listener of the server: ``echo``, ``echo-udp``, ``echo-udp-7`` ..."""
    service = re.sub(r"[^A-Za-z0-9._-]+", "-", listener.settings.service_name).strip("-")
    yield service
    name = f"{service}-{listener.settings.transport}"
    yield name
    if listener.port:
        name = f"{name}-{listener.port}"
        yield name
    for number in range(2, 10**9):
        yield f"{name}-{number}"
