"""forward: pass connections and datagrams on to another server, its *upstream*."""

import os
import re
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from attrs import Attribute, field, frozen
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramService, IStreamService
from netsrv.proxy_protocol import Transport, make_v1, make_v2
from netsrv.settings import quote_value
from netsrv.sockets.addresses import MAX_SUN_PATH

MAX_CONNECT_TIMEOUT = 3600.0
MAX_FLOWS = 10_000
"""Clients of a datagram listener that have an upstream socket at once, by default."""

UPSTREAM_FORMS = "HOST:PORT, [IPV6]:PORT or the path of a unix socket, as in /run/app.sock"

_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^\[\]:/\s]+)):([0-9]{1,5})")


@frozen
class Upstream:
    """The address of an upstream."""

    host: str
    """A numeric address or a name; empty for a unix socket."""
    port: int
    path: str = ""
    """The path of a unix socket; empty for a host."""

    def __str__(self) -> str:
        if self.path:
            return f"unix {self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_numeric(self) -> bool:
        """True if the host is an address, and no name that has to be looked up."""
        try:
            ip_address(self.host.partition("%")[0])
        except ValueError:
            return False
        return True


def parse_upstream(text: str) -> Upstream:
    """Parse the address of an upstream.  Raises ValueError with what would be right."""
    if text.startswith("/") and "\0" not in text:
        if len(os.fsencode(text)) > MAX_SUN_PATH:
            raise ValueError(f"{quote_value(text)}: a path of at most {MAX_SUN_PATH} bytes")
        return Upstream("", 0, text)
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or not 0 < int(match[3]) <= 65_535:
        raise ValueError(f"{quote_value(text)}: write {UPSTREAM_FORMS}")
    return Upstream(match[1] or match[2], int(match[3]))


def _positive(limit: float) -> Any:
    def check(instance: Any, attribute: "Attribute[Any]", value: float) -> None:
        if not 0 < value <= limit:
            raise ValueError(f"{quote_value(value)}: more than 0, at most {limit:g}")

    return check


class SendProxy(StrEnum):
    """The header of the PROXY protocol that an upstream gets."""

    OFF = "off"
    V1 = "v1"
    V2 = "v2"


def proxy_header(version: SendProxy, source: Any, destination: Any, is_stream: bool) -> bytes:
    """Return the header for a client at *source*; a peer without an address is unknown in it."""
    if version is SendProxy.OFF:
        return b""
    known = source is not None and destination is not None
    addresses = (source, destination) if known else (None, None)
    if version is SendProxy.V1 and is_stream:
        return make_v1(*addresses)
    transport = Transport.STREAM if is_stream else Transport.DGRAM
    return make_v2(*addresses, transport=transport)


@frozen
class ForwardSettings:
    """The settings of forward."""

    upstream: str = field()
    """Where connections and datagrams go: ``HOST:PORT``, ``[IPV6]:PORT``, or the path of a unix
    socket."""
    connect_timeout: float = field(default=5.0, validator=_positive(MAX_CONNECT_TIMEOUT))
    """Seconds that connecting to the upstream may take."""
    send_proxy: SendProxy = field(default=SendProxy.OFF, converter=SendProxy)
    """The header of the PROXY protocol that tells the upstream the client's address: ``v1``,
    ``v2`` or ``off``.  Datagrams have ``v2`` only."""
    flow_timeout: float = field(default=30.0, validator=_positive(MAX_CONNECT_TIMEOUT))
    """Seconds without a datagram after which a client's upstream socket is closed."""
    max_flows: int = field(default=MAX_FLOWS, validator=_positive(2**20))
    """Clients that have an upstream socket at once; datagrams of others are dropped."""

    @upstream.validator
    def _check_upstream(self, attribute: "Attribute[Any]", value: str) -> None:
        parse_upstream(value)

    @property
    def address(self) -> Upstream:
        """The upstream, parsed."""
        return parse_upstream(self.upstream)


@implementer(IStreamService, IDatagramService)
class ForwardService:
    """The plugin."""

    name = "forward"
    description = "pass everything on to an upstream server, and its answers back"
    settings = ForwardSettings

    def stream(self, settings: Any) -> IProtocolFactory:
        from netsrv.services.forward_streams import ForwardFactory

        return ForwardFactory(settings)

    def datagram(self, settings: Any) -> DatagramProtocol:
        from netsrv.services.forward_datagrams import ForwardDatagrams

        return ForwardDatagrams(settings)
