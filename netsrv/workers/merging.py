"""The state of several workers as that of one server: sums, which never fall when a worker ends.

All functions are pure, and take the rows and snapshots of `netsrv.server.status` as plain values.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from netsrv.interfaces import ListenerState

Row = dict[str, Any]

MAX_SOURCES = 10
"""Sources with most connections that a snapshot has."""

STATES = (
    ListenerState.FAILED,
    ListenerState.SERVING,
    ListenerState.FULL,
    ListenerState.SUSPENDED,
    ListenerState.CLOSING,
)
"""The states of a listener; the first one that a worker reports is that of the server."""

GAUGES = ("now", "most", "limit", "pending", "kernel_drops")
"""Keys of values that end with a worker."""


def add(first: Any, second: Any) -> Any:
    """Return the sum of two plain values: of numbers, of tables by keys, of buckets."""
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, Mapping):
        return {key: add(first.get(key), second.get(key)) for key in {**first, **second}}
    if isinstance(first, list):
        if not (first and isinstance(first[0], list)):
            return first or second
        pairs = zip(first, second, strict=True)
        return [[bound, count + other] for (bound, count), (_, other) in pairs]
    return first if isinstance(first, str | bool) else first + second


def total(values: Iterable[Any]) -> Any:
    """Return the sum of plain values; None if there are none."""
    result = None
    for value in values:
        result = add(result, value)
    return result


def without_gauges(row: Row) -> Row:
    """Return the row of a worker that has ended: its counts."""
    ended = {key: value for key, value in row.items() if key not in ("state", "state_reason")}
    for part in ("connections", "datagrams"):
        if ended[part] is not None:
            counts = ended[part].items()
            ended[part] = {key: value for key, value in counts if key not in GAUGES}
    return ended


def merge_rows(live: Sequence[Row], ended: Row | None, limited: bool, most: int) -> Row:
    """Return the row of a listener from those of its workers.

    *ended* is the sum of the rows of workers that have ended.  Unless the listener is *limited* by
    a limit of its own, each worker adds its descriptors to the limit.  *most* is the most
    connections at once so far.
    """
    row: Row = dict(total([*live, *([] if ended is None else [ended])]))
    reporting = min(live, key=lambda one: STATES.index(one["state"]))
    row["id"] = row["name"]
    row["started"] = min(one["started"] for one in live)
    row["state"], row["state_reason"] = reporting["state"], reporting["state_reason"]
    connections = row["connections"]
    if connections is not None:
        limits = [one["connections"]["limit"] for one in live]
        row["connections"] = {
            **connections,
            "limit": max(limits) if limited else sum(limits),
            "most": max(most, connections["now"]),
        }
    row["faults"] = merge_faults(one["faults"] for one in live)
    return row


def merge_faults(tables: Iterable[Sequence[Row]]) -> list[Row]:
    """Return the faults of a listener, each with its hits in all workers."""
    faults: dict[str, Row] = {}
    for fault in chain.from_iterable(tables):
        before = faults.get(fault["name"], {"hits": 0})
        faults[fault["name"]] = {**fault, "hits": before["hits"] + fault["hits"]}
    return list(faults.values())


def counts_of(row: Row) -> tuple[int, tuple[int, ...]]:
    """Return the live connections of a listener, and its counts as a `Sample` has them."""
    connections, datagrams = row["connections"] or {}, row["datagrams"] or {}
    now, accepted = connections.get("now", 0), connections.get("accepted", 0)
    refused = sum(connections.get("refused", {}).values())
    received, sent = datagrams.get("received", 0), datagrams.get("sent", 0)
    dropped = sum(datagrams.get("dropped", {}).values())
    sizes = row["bytes"]["received"], row["bytes"]["sent"]
    return now, (accepted, accepted - now, refused, *sizes, received, sent, dropped)


def merge_sources(tops: Iterable[Sequence[Row]], names: Mapping[str, str]) -> list[Row]:
    """Return the sources with most connections; *names* are those of listeners by their ids."""
    counts: dict[tuple[str, str], int] = {}
    for top in tops:
        for entry in top:
            key = entry["source"], names.get(entry["listener"], entry["listener"])
            counts[key] = counts.get(key, 0) + entry["connections"]
    most = sorted(counts.items(), key=lambda item: item[1], reverse=True)[:MAX_SOURCES]
    return [
        {"source": source, "listener": listener, "connections": count}
        for (source, listener), count in most
    ]


def merge_loops(loops: Sequence[Row], ended: Row | None) -> Row:
    """Return the state of the loops: the worst delays, and the sums of the stalls."""
    stalls = total([*loops, *([] if ended is None else [ended])]) or {
        "stalls": 0,
        "stalled_seconds": 0.0,
    }
    return {
        **stalls,
        "lag": max((loop["lag"] for loop in loops), default=0.0),
        "lag_most": max((loop["lag_most"] for loop in loops), default=0.0),
    }


def merge_processes(processes: Sequence[Row], ended_seconds: float, start: float | None) -> Row:
    """Return the sums over processes, with the CPU time of those that have ended."""
    row: Row = total(processes)
    return {**row, "cpu_seconds": row["cpu_seconds"] + ended_seconds, "start": start}
