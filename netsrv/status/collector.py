"""A collector for `prometheus_client`, which reads plain numbers when it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from netsrv.interfaces import ListenerState
from netsrv.status.families import LISTENER_FAMILIES, SERVER_FAMILIES, Family, Kind
from netsrv.status.source import ServerState, Snapshot

if TYPE_CHECKING:  # it costs 60 ms, which a server without a status does not need
    from prometheus_client import Metric

NOT_ACCEPTING = (ListenerState.SUSPENDED, ListenerState.FULL)


class HasStatus(Protocol):
    """A `netsrv.server.Server`."""

    @property
    def status(self) -> Any:
        """The source of its status."""


class ServerCollector:
    """The metrics of a `netsrv.server.Server`, for a registry of `prometheus_client`.

    They are read in the reactor's thread, whichever thread asks.  Those of the process are left
    out: `prometheus_client` has a collector for them.
    """

    def __init__(self, server: HasStatus) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with their present values."""
        return make_metrics(self._server.status.read_snapshot())

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without values: the registry compares the names."""
        return make_metrics({"listeners": []})


def make_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of a snapshot, but those of the process."""
    for family in SERVER_FAMILIES:
        yield server_metric(family, snapshot)
    for family in LISTENER_FAMILIES:
        yield listener_metric(family, snapshot["listeners"])


def server_metric(family: Family, snapshot: Snapshot) -> Metric:
    """Return a metric of the whole server."""
    metric: Metric = _new_metric(family, family.labels)
    _add(metric, family, (), family.read(_with_flags(snapshot)))
    return metric


def listener_metric(family: Family, rows: Iterable[Mapping[str, Any]]) -> Metric:
    """Return a metric with the samples of some listeners."""
    metric: Metric = _new_metric(family, ("listener", *family.labels))
    for row in rows:
        _add(metric, family, (row["id"],), family.read(_with_listener_flags(row)))
    return metric


def _new_metric(family: Family, labels: Sequence[str]) -> Any:
    from prometheus_client import metrics_core as core

    kinds = {
        Kind.COUNTER: core.CounterMetricFamily,
        Kind.GAUGE: core.GaugeMetricFamily,
        Kind.HISTOGRAM: core.HistogramMetricFamily,
        Kind.INFO: core.InfoMetricFamily,
    }
    return kinds[family.kind](family.name, family.help, labels=labels)


def _add(metric: Any, family: Family, labels: tuple[str, ...], value: Any) -> None:
    """Add the samples of one listener, or of the server."""
    if value is None:
        return
    if family.kind is Kind.INFO:
        metric.add_metric((), value)
    elif family.kind is Kind.HISTOGRAM:
        metric.add_metric(labels, _cumulated(value["buckets"]), value["seconds"])
    elif isinstance(value, Mapping):
        for label, inner in value.items():
            _add(metric, family, (*labels, label), inner)
    else:
        metric.add_metric(labels, value)


def _cumulated(buckets: Sequence[Sequence[Any]]) -> list[tuple[str, int]]:
    total = 0
    cumulated = []
    for bound, count in buckets:
        total += count
        cumulated.append(("+Inf" if bound is None else str(float(bound)), total))
    return cumulated


def _with_flags(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot with what only metrics have."""
    if "config" not in snapshot:
        return {}
    last = snapshot["config"]["last_reload"]
    return {
        **snapshot,
        "build": {"version": snapshot["version"], "reactor": snapshot["reactor"]},
        "certificate_expiry": _expiry(snapshot["certificates"]),
        "draining": int(snapshot["state"] == ServerState.DRAINING),
        "ready": int(snapshot["ready"]),
        "reload_successful": int(last is None or last["result"] != "failure"),
        "reload_success_at": snapshot["config"]["success_at"],
    }


def _expiry(certificates: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return by name when the first certificate of that name expires."""
    expiry: dict[str, float] = {}
    for certificate in certificates:
        name, not_after = certificate["name"], certificate["not_after"]
        expiry[name] = min(not_after, expiry.get(name, not_after))
    return expiry


def _with_listener_flags(row: Mapping[str, Any]) -> dict[str, Any]:
    state, faults = row["state"], row["faults"]
    return {
        **row,
        "suspended": int(state in NOT_ACCEPTING),
        "failed": int(state == "failed"),
        "faults_active": len(faults),
        "fault_hits": {fault["name"]: fault["hits"] for fault in faults},
    }
