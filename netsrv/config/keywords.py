"""The settings of one listener, made by a program with keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from netsrv.config.document import DocumentReader
from netsrv.config.errors import Source
from netsrv.config.model import LISTENER_SETTINGS, ListenerSettings, Transport
from netsrv.settings import MAX_QUOTED_LENGTH, KeyPath, choice, quote_value, shorten

TransportName = Literal["tcp", "udp", "unix"]

ServiceObject: TypeAlias = (
    "IProtocolFactory | Factory | DatagramProtocol"
    " | type[Protocol] | type[Factory] | type[DatagramProtocol]"
)
"""A program's own service, as opposed to an installed one."""


class ListenerKeywords(TypedDict, total=False):
    """The keyword arguments of `listener`: the keys of a file, with the values of a file."""

    name: str
    settings: Any
    safe_replies: bool
    context_factory: Any
    mode: int | str
    backlog: int
    reuse_address: bool
    reuse_port: bool
    socket_options: Mapping[str, int | str]
    fault: Sequence[Mapping[str, Any]]
    max_connections: int | Literal["auto"]
    overload: Literal["pause", "close", "reset"]
    per_source: int
    connection_rate: float | str
    only_from: Sequence[str]
    no_access: Sequence[str]
    datagram_rate: float | str
    refuse_source_ports: int | str | list[int | str]
    idle_timeout: float
    lifetime: float
    write_timeout: float | Literal["none"]
    close_grace: float
    proxy_protocol_from: Sequence[str]
    proxy_protocol_header_timeout: float
    proxy_protocol_max_length: int
    proxy_protocol_per_proxy: int
    proxy_protocol_unspec: Literal["accept", "reject"]
    proxy_protocol_other_transport: Literal["accept", "reject"]
    tls_certificate: str | Sequence[str]
    tls_key: str | Sequence[str]
    tls_client_ca: str
    tls_client_verify: Literal["none", "optional", "required"]
    tls_crl: str
    tls_alpn: Sequence[str]
    tls_min_version: Literal["1.2", "1.3"]
    tls_ciphers: str
    tls_ciphersuites: str
    tls_groups: str
    tls_session_tickets: bool
    tls_strict_sni: bool
    tls_handshake_timeout: float


def listener(
    transport: TransportName,
    address: int | str,
    service: str | ServiceObject,
    **keywords: Unpack[ListenerKeywords],
) -> ListenerSettings:
    """Make the settings of one listener, with values as a configuration file has them.

    *transport* is ``tcp``, ``udp`` or ``unix``; *address* is as in a file: ``7``,
    ``"127.0.0.1:0"``, ``"[::1]:7"``, or the path of a unix socket.  *service* is the name of a
    service, or an object of the program: a factory, or a `DatagramProtocol` for ``udp``; or a class
    of these, which is called without arguments, or of protocols.  The log shows an object by
    *name*, by default its class.  *settings* are an instance of the settings
    class of a named service; *safe_replies* holds a `DatagramProtocol` of the program to the rules
    for datagrams; *context_factory* is a `twisted.internet.ssl.CertificateOptions`, with which TLS
    is Twisted's.  Keywords that begin with ``tls_`` are the keys of ``[listener.tls]``, and all
    others those of a ``[[listener]]``, of its ``limits`` and of its
    ``access``.

    Raises `ConfigurationError` with a line for each error.
    """
    call = f"listener({quote_value(transport)}, {quote_value(address)})"
    locate = partial(_locate, call, transport)
    reader = DocumentReader(Source(locate, LISTENER_SETTINGS, "keyword"))
    with reader.errors.at():
        choice(Transport).parse(transport)
    reader.errors.raise_all()
    document = reader.make_document(keywords, {transport: address})
    settings = reader.listener(document["listener"][0], (), {"service": service})
    reader.errors.raise_all()
    assert settings is not None  # otherwise there are errors
    return settings


def _locate(call: str, transport: str, keys: KeyPath) -> str:
    """Return the keyword that a key path belongs to, after the call."""
    names = list(map(str, keys))
    for key in [*map("_".join, pairwise(names)), *names]:  # tls_certificate is one of tls
        if key == transport:
            return f"{call}: address"
        if key == "service" or key in LISTENER_SETTINGS or [key] == names:
            return f"{call}: {shorten(key, MAX_QUOTED_LENGTH)}"
    return call
