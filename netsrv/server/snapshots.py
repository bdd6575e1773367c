"""The state of the listeners as plain values, read in slices.

A listener's values are read together, except the bytes of its live connections, of which there may
be tens of thousands.  They are summed up over the connections that were live when the counts were
read: so a sum never falls from one reading to the next.
"""

import heapq
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, frozen

from netsrv.config.model import ListenerSettings
from netsrv.config.showing import limits_in_effect, plain_value, show_plain
from netsrv.gate import Gate
from netsrv.interfaces import ListenerInfo, ListenerState
from netsrv.observers.counters import DURATION_BUCKETS, HANDSHAKE_BUCKETS, Counters, Counts
from netsrv.server.descriptors import show_max_connections
from netsrv.server.listener_set import Listeners
from netsrv.server.listeners import RunningListener
from netsrv.server.slices import Phase, Steps
from netsrv.sockets.options import show_value
from netsrv.sockets.steps import OptionInEffect
from netsrv.status.document import encode
from netsrv.status.source import EncodedListener, Sample

BATCH_SIZE = 256
"""Connections, or sources, that are read in one step."""

MAX_SOURCES = 10
"""Sources with most connections that a snapshot has."""

IPV6_PREFIX_SIZE = 8
"""Bytes of an IPv6 network that is one source."""


@frozen
class _Described:
    """A listener's options and limits in JSON, and what they are made from."""

    settings: ListenerSettings
    options_in_effect: tuple[OptionInEffect, ...]
    text: str


NOT_DESCRIBED = encode({"options": [], "limits": []})
"""Of a listener that is closing."""


@define
class _Top:
    """The sources with most connections: pairs of a number and what it is about."""

    entries: list[tuple[int, bytes, str]]

    def add(self, listener: str, sources: Mapping[bytes, int]) -> Steps[None]:
        items = list(sources.items())
        for start in range(0, len(items), BATCH_SIZE):
            batch = [(count, key, listener) for key, count in items[start : start + BATCH_SIZE]]
            self.entries = heapq.nlargest(MAX_SOURCES, [*self.entries, *batch])
            yield Phase.PLANNING

    def as_plain(self) -> list[dict[str, Any]]:
        return [
            {"source": _show_source(key), "listener": listener, "connections": count}
            for count, key, listener in self.entries
        ]


class ListenerReader:
    """Reads the state of *listeners*, with their *counters*; *descriptors* are the process's."""

    def __init__(self, listeners: Listeners, counters: Counters, descriptors: int) -> None:
        self._listeners = listeners
        self._counters = counters
        self._descriptors = descriptors
        self._ids: dict[ListenerInfo, str] = {}
        self._described: dict[ListenerInfo, _Described] = {}

    def id_of(self, info: ListenerInfo) -> str:
        """Return the unique name of a listener in the status and in metrics."""
        return self._ids.get(info) or str(info)

    def read_samples(self) -> Steps[list[Sample]]:
        """Read the counts of each listener."""
        samples = []
        for gate in self._listeners.gates:
            counts = self._counts(gate)
            refused, dropped = counts.refused.total(), counts.datagrams_dropped.total()
            numbers = (counts.accepted, counts.accepted - counts.active, refused)
            datagrams = (counts.datagrams_received, counts.datagrams_sent, dropped)
            now = len(gate.connections)
            received, sent = yield from _bytes_of(gate, counts)
            samples.append(Sample(gate.listener_info, now, (*numbers, received, sent, *datagrams)))
            yield Phase.PLANNING
        return samples

    def read(self) -> Steps[dict[str, Any]]:
        """Read all listeners: the values of ``listeners`` and ``sources`` in the status."""
        running = list(self._listeners.running)
        retired = self._listeners.retired
        self._name([listener.listener_info for listener in running], retired)
        rows = []
        top = _Top([])
        for listener in running:
            if listener in self._listeners.running:
                row = yield from self._read_running(listener, top)
                rows.append(EncodedListener(encode(row), self._describe(listener)))
                yield Phase.PLANNING
        for gate in retired:
            closing = yield from self._read_gate(gate, ListenerState.CLOSING, "", top)
            rows.append(EncodedListener(encode(closing), NOT_DESCRIBED))
            yield Phase.PLANNING
        return {"listeners": rows, "sources": top.as_plain()}

    def read_closed(self, gates: Iterable[Gate]) -> Steps[dict[str, Any]]:
        """Read as `read` what closed listeners have counted, if that is not forgotten."""
        rows = []
        top = _Top([])
        for gate in gates:
            row = yield from self._read_gate(gate, ListenerState.CLOSING, "", top)
            rows.append(EncodedListener(encode(row), NOT_DESCRIBED))
        return {"listeners": rows, "sources": top.as_plain()}

    def _name(self, running: list[ListenerInfo], retired: list[Gate]) -> None:
        """Give each listener a name of its own, and keep the names that were given before."""
        closing = [gate.listener_info for gate in retired]
        before, self._ids = self._ids, {}
        taken = set()
        for infos, end in ((running, ""), (closing, " closing")):
            for info in sorted(infos, key=lambda info: info not in before):
                name = before.get(info)
                if name is None or name in taken:
                    name = next(name for name in _names(str(info), end) if name not in taken)
                self._ids[info] = name
                taken.add(name)
        self._described = {
            info: described for info, described in self._described.items() if info in self._ids
        }

    def _counts(self, gate: Gate) -> Counts:
        return self._counters.listeners.get(gate.listener_info) or Counts()

    def _read_running(self, listener: RunningListener, top: _Top) -> Steps[dict[str, Any]]:
        row = yield from self._read_gate(listener.gate, *listener.state, top)
        row["faults"] = listener.describe_faults()
        errors = getattr(listener.service, "connect_errors", None)
        row["forward"] = None if errors is None else {"connect_errors": dict(errors)}
        if row["datagrams"] is not None:
            row["datagrams"]["kernel_drops"] = listener.kernel_drops
        return row

    def _read_gate(
        self, gate: Gate, state: ListenerState, reason: str, top: _Top
    ) -> Steps[dict[str, Any]]:
        info, counts = gate.listener_info, self._counts(gate)
        is_stream = info.transport != "udp"
        row = {
            "id": self.id_of(info),
            "name": str(info),
            "transport": str(info.transport),
            "address": info.address,
            "service": info.service,
            "started": gate.started_at,
            "state": str(state),
            "state_reason": str(reason),
            "connections": _connections(gate, counts) if is_stream else None,
            "bytes": {},
            "datagrams": None if is_stream else _datagrams(counts),
            "errors": {"accept": counts.accept_errors, "service": counts.service_failures},
            "duration": _duration(counts.seconds, DURATION_BUCKETS, counts.duration_buckets)
            if is_stream
            else None,
            "tls": _tls(counts),
            "proxy": _proxy(counts),
            "faults": [],
            "forward": None,
        }
        received, sent = yield from _bytes_of(gate, counts)
        row["bytes"] = {"received": received, "sent": sent}
        yield from top.add(self.id_of(info), gate.admission.sources)
        return row

    def _describe(self, listener: RunningListener) -> str:
        """Return options and limits in JSON, made again only if those have changed."""
        info, settings, options = listener.listener_info, listener.settings, listener.socket.options
        described = self._described.get(info)
        if (
            described is None
            or described.settings is not settings
            or described.options_in_effect is not options
        ):
            limits = [*_limits(settings, self._descriptors)]
            text = encode({"options": [*map(_option, options)], "limits": limits})
            described = self._described[info] = _Described(settings, options, text)
        return described.text


def _names(name: str, end: str) -> Iterator[str]:
    yield name
    yield f"{name}{end}" if end else f"{name} #2"
    for number in range(2 if end else 3, 10**9):
        yield f"{name}{end} #{number}"


def _bytes_of(gate: Gate, counts: Counts) -> Steps[tuple[int, int]]:
    """Return the bytes received and sent, those of live connections included."""
    received, sent = counts.received_bytes, counts.sent_bytes
    connections = list(gate.connections)
    for start in range(0, len(connections), BATCH_SIZE):
        if start:
            yield Phase.PLANNING
        for connection in connections[start : start + BATCH_SIZE]:
            received += connection.received
            sent += connection.sent
            if connection in gate.connections:  # at its end the rest was subtracted
                sent -= connection.unsent
    return received, sent


def _connections(gate: Gate, counts: Counts) -> dict[str, Any]:
    return {
        "now": len(gate.connections),
        "most": max(counts.peak, len(gate.connections)),
        "limit": int(gate.admission.limit),
        "accepted": counts.accepted,
        "refused": dict(counts.refused),
        "closed": dict(counts.closed),
        "pending": dict(gate.pending),
    }


def _datagrams(counts: Counts) -> dict[str, Any]:
    return {
        "received": counts.datagrams_received,
        "sent": counts.datagrams_sent,
        "dropped": dict(counts.datagrams_dropped),
        "kernel_drops": None,
    }


def _duration(seconds: float, bounds: Sequence[float], counted: Sequence[int]) -> dict[str, Any]:
    """Return a sum of durations, and how many of them there are in each bucket."""
    buckets = [list(pair) for pair in zip((*bounds, None), counted, strict=True)]
    return {"seconds": seconds, "buckets": buckets}


def _tls(counts: Counts) -> dict[str, Any] | None:
    """Return the handshakes by result, and their durations; None if there was none."""
    if not counts.tls_handshakes:
        return None
    seconds, buckets = counts.tls_handshake_seconds, counts.tls_handshake_buckets
    return {
        "handshakes": dict(counts.tls_handshakes),
        "duration": _duration(seconds, HANDSHAKE_BUCKETS, buckets),
    }


def _proxy(counts: Counts) -> dict[str, Any] | None:
    """Return the headers by version and result; None if there was none."""
    headers = counts.proxy_headers_by_version
    return {"headers": headers} if headers else None


def _option(option: OptionInEffect) -> dict[str, str]:
    in_effect = "unknown" if option.in_effect is None else show_value(option.in_effect)
    return {"name": option.name, "asked": show_value(option.asked), "in_effect": in_effect}


def _limits(settings: ListenerSettings, descriptors: int) -> Iterator[dict[str, Any]]:
    for setting, value in limits_in_effect(settings).items():
        if setting.name == "max_connections":
            text = show_max_connections(value, descriptors)
        elif value is None or value == ():
            text = setting.default_text if value == setting.default else "none"
        else:
            text = show_plain(plain_value(setting.kind.plain(value)))
        yield {"name": setting.name, "value": text, "default": value == setting.default}


def _show_source(key: bytes) -> str:
    if len(key) < IPV6_PREFIX_SIZE:
        return socket.inet_ntop(socket.AF_INET, key)
    return f"{socket.inet_ntop(socket.AF_INET6, key.ljust(16, bytes(1)))}/64"
