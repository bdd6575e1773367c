"""The text of the metrics: Prometheus 0.0.4 or OpenMetrics 1.0, as the client accepts it.

The module is imported with the status server: `prometheus_client` takes 70 ms, for which neither a
scrape nor a server without a status pays.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from attrs import frozen
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

from netsrv.status.collector import listener_metric, server_metric
from netsrv.status.families import (
    LISTENER_FAMILIES,
    PROCESS_FAMILIES,
    SERVER_FAMILIES,
    WORKER_FAMILIES,
    Family,
)
from netsrv.status.source import Snapshot

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

END = "# EOF\n"
"""The end of OpenMetrics."""

BATCH_SIZE = 20
"""Listeners that are rendered at once."""

_QUALITY = re.compile(r"(0(\.[0-9]{0,3})?|1(\.0{0,3})?)")


def choose_type(accept: str) -> str:
    """Return the type of the answer for a header ``Accept`` (RFC 9110, 12.5.1)."""
    best = {TEXT_TYPE: 0.0, OPENMETRICS_TYPE: 0.0}
    for part in accept.split(","):
        name, *rest = (word.strip().lower() for word in part.split(";"))
        parameters = dict(word.partition("=")[::2] for word in rest)
        quality = parameters.get("q", "1")
        value = float(quality) if _QUALITY.fullmatch(quality) else 0.0
        version = parameters.get("version", "")
        if name == "application/openmetrics-text" and version in ("", "1.0.0"):
            best[OPENMETRICS_TYPE] = max(best[OPENMETRICS_TYPE], value)
        elif name in ("text/plain", "text/*", "*/*") and version in ("", "0.0.4"):
            best[TEXT_TYPE] = max(best[TEXT_TYPE], value)
    return OPENMETRICS_TYPE if best[OPENMETRICS_TYPE] > best[TEXT_TYPE] else TEXT_TYPE


def render_metrics(snapshot: Snapshot, content_type: str) -> bytes:
    """Return the metrics of a snapshot as text.

    Some listeners are rendered at a time.  So few objects live at once, and the garbage collector
    does not examine all those of the process for a scrape of a thousand listeners.
    """
    texts: dict[Family, list[str]] = {}
    for family in LISTENER_FAMILIES:
        texts[family] = [_render(listener_metric(family, ()), content_type)[0]]
    rows = snapshot["listeners"]
    for start in range(0, len(rows), BATCH_SIZE):
        batch = [json.loads(row.state) for row in rows[start : start + BATCH_SIZE]]
        for family, parts in texts.items():
            parts.append(_render(listener_metric(family, batch), content_type)[1])
    of_workers = WORKER_FAMILIES if snapshot.get("workers") else ()
    server = [
        part
        for family in (*SERVER_FAMILIES, *of_workers, *PROCESS_FAMILIES)
        for part in _render(server_metric(family, snapshot), content_type)
    ]
    listeners = [part for parts in texts.values() for part in parts]
    end = END if content_type == OPENMETRICS_TYPE else ""
    return "".join([*server, *listeners, end]).encode()


def _render(metric: Any, content_type: str) -> tuple[str, str]:
    """Return the lines about a metric, and those of its samples."""
    one: Any = _OneMetric(metric)
    if content_type == OPENMETRICS_TYPE:
        text = bytes(openmetrics.generate_latest(one)).decode().removesuffix(END)
    else:
        text = exposition.generate_latest(one).decode()
    help_line, type_line, samples = text.split("\n", 2)
    return f"{help_line}\n{type_line}\n", samples


@frozen
class _OneMetric:
    """A registry of one metric."""

    metric: Any

    def collect(self) -> Iterator[Any]:
        yield self.metric
