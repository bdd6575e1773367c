"""Settings that depend on each other, on the transport, or on other listeners."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from netsrv.config.model import ListenerSettings, Transport
from netsrv.guards.proxies import NO_PROXY_PROTOCOL, mistakes_of_proxying
from netsrv.settings import MAX_TEXT_LENGTH, KeyPath, shorten
from netsrv.tls.settings import NO_TLS, mistakes_of


def misfits(transport: Transport, values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the keys of what does not fit, each with a message.

    *values* are the fields of `ListenerSettings` that were given.
    """
    embedded = not isinstance(values.get("service", ""), str)
    if values.get("mode") is not None and transport.takes_port:
        yield ("mode",), "only the file of a unix socket has one"
    if embedded and values.get("settings") is not None:
        yield ("settings",), "only a service that has a name takes them"
    proxied = values.get("proxy_protocol", NO_PROXY_PROTOCOL)
    for name, text in mistakes_of_proxying(proxied, transport.takes_port):
        yield ("proxy_protocol", name), text
    for name, text in mistakes_of(values.get("tls", NO_TLS)):
        yield ("tls", name), text
    for name in filter(values.get, ("tls", "context_factory")):
        if not transport.is_stream:
            yield (name,), "there is no TLS on UDP"
        elif name == "context_factory" and "tls" in values:
            yield (name,), "TLS is either Twisted's or that of the tls_ keys"
    if values.get("safe_replies") and not (embedded and not transport.is_stream):
        yield ("safe_replies",), "only for a DatagramProtocol; a named service has them"


def duplicate_addresses(listeners: Iterable[ListenerSettings]) -> Iterator[str]:
    """Yield a line for each listener that has the address of one before it."""
    seen: dict[str, ListenerSettings] = {}
    for listener in listeners:
        first = seen.setdefault(listener.address_label, listener)
        if first is not listener and listener.port != 0:
            before = f", first in {first.config_location}" if first.config_location else ""
            label = shorten(listener.option_label, MAX_TEXT_LENGTH)
            yield f"{label}: duplicate listener{before}"
