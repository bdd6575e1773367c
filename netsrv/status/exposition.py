"""The text of the metrics: Prometheus 0.0.4 or OpenMetrics 1.0, as the client accepts it."""

import re
from typing import Any

from netsrv.status.collector import SnapshotCollector
from netsrv.status.source import Snapshot

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

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
    """Return the metrics of a snapshot as text."""
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics

    collector: Any = SnapshotCollector(snapshot)
    if content_type == OPENMETRICS_TYPE:
        return bytes(openmetrics.generate_latest(collector))
    return exposition.generate_latest(collector)
