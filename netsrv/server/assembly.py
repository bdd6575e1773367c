"""Puts a listener together from its prepared parts.

What a listener runs on is imported late: an error at the start does without.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from netsrv.gate import Gate
from netsrv.guards.datagrams import DatagramGuard
from netsrv.server.binding import make_reopener
from netsrv.server.listening import Listener
from netsrv.server.prepare import PreparedListener

if TYPE_CHECKING:
    from netsrv.streams.pending import Stage


def stages_of(prepared: PreparedListener) -> "list[Stage]":
    """Return the stages that a listener's connections go through before its service."""
    stages: list[Stage] = []
    if prepared.settings.proxy_protocol.enabled:
        from netsrv.streams.proxy_stage import ProxyStage  # other servers do without

        stages.append(ProxyStage(prepared.settings.proxy_protocol))
    if prepared.certificates is not None:
        from netsrv.streams.tls_stage import TLSStage  # a server without TLS does without

        stages.append(TLSStage(prepared.certificates))
    return stages


def same_way(before: PreparedListener, after: PreparedListener) -> bool:
    """Return whether a listener can take peers by other settings without being replaced."""
    if before.settings.transport.is_stream:
        return bool(stages_of(before)) == bool(stages_of(after))
    return before.settings.proxy_protocol == after.settings.proxy_protocol


def assemble(
    reactor: Any, prepared: PreparedListener, gate: Gate, own_ports: Mapping[int, int]
) -> Listener:
    """Return a listener, which is not started yet; *own_ports* are the UDP ports we serve."""
    settings, sock, limits = prepared.settings, prepared.socket.sock, prepared.settings.limits
    if settings.transport.is_stream:
        from netsrv.streams.listener import StreamListener

        service, stages = _with_twisteds_tls(prepared), stages_of(prepared)
        share = prepared.socket.share
        return StreamListener(reactor, sock, gate, service, limits.overload, stages, share)
    from netsrv.datagrams.listener import DatagramListener

    ports, safe = limits.refuse_source_ports, _is_safe(prepared)
    guard = DatagramGuard(limits.access, ports, own_ports, limits.datagram_rate, safe)
    reopen = make_reopener(settings, prepared.socket)
    proxied = settings.proxy_protocol
    return DatagramListener(reactor, sock, gate, prepared.service, guard, reopen, proxied)


def _is_safe(prepared: PreparedListener) -> bool:
    """Return True if a datagram service is held to the rules for replies."""
    if prepared.settings.embedded:
        return prepared.settings.safe_replies
    return not getattr(prepared.service, "unlimited_replies", False)


def _with_twisteds_tls(prepared: PreparedListener) -> Any:
    """Return the service, behind TLS of Twisted's if its settings have a context factory."""
    context_factory = prepared.settings.context_factory
    if context_factory is None:
        return prepared.service
    from twisted.protocols.tls import TLSMemoryBIOFactory  # pyOpenSSL takes its time

    factory = TLSMemoryBIOFactory(context_factory, False, prepared.service)
    factory.noisy = False
    return factory
