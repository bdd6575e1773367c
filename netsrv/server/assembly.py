"""Puts a listener together from its prepared parts."""

from collections.abc import Mapping
from typing import Any

from netsrv.datagrams.listener import DatagramListener
from netsrv.gate import Gate
from netsrv.guards.datagrams import DatagramGuard
from netsrv.server.binding import make_reopener
from netsrv.server.listening import Listener
from netsrv.server.prepare import PreparedListener
from netsrv.streams.listener import StreamListener
from netsrv.streams.pending import Stage
from netsrv.streams.tls_stage import TLSStage


def stages_of(prepared: PreparedListener) -> list[Stage]:
    """Return the stages that a listener's connections go through before its service."""
    store = prepared.certificates
    return [] if store is None else [TLSStage(store)]


def assemble(
    reactor: Any, prepared: PreparedListener, gate: Gate, own_ports: Mapping[int, int]
) -> Listener:
    """Return a listener, which is not started yet; *own_ports* are the UDP ports we serve."""
    settings, sock, limits = prepared.settings, prepared.socket.sock, prepared.settings.limits
    if settings.transport.is_stream:
        service, stages = prepared.service, stages_of(prepared)
        return StreamListener(reactor, sock, gate, service, limits.overload, stages)
    ports, safe = limits.refuse_source_ports, settings.safe_replies or not settings.embedded
    guard = DatagramGuard(limits.access, ports, own_ports, limits.datagram_rate, safe)
    reopen = make_reopener(settings, prepared.socket)
    return DatagramListener(reactor, sock, gate, prepared.service, guard, reopen)
