"""The metrics: one row for each family, read from a snapshot.

The reference's list of metrics is made from these rows.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import frozen

from netsrv.interfaces import CloseReason, DropReason, RejectReason


class Kind(Enum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@frozen
class Family:
    """A metric: its name and its place in a snapshot."""

    kind: Kind
    name: str
    """The name without ``_total`` and the like."""
    help: str
    path: tuple[str, ...]
    """The keys of the value in a snapshot, or in the row of a listener."""
    labels: tuple[str, ...] = ()
    """The labels besides ``listener``: the value is a table, with a table inside for a second
    label."""
    known: tuple[str, ...] = ()
    """Values of the only label that have a sample from the start."""

    @property
    def sample_name(self) -> str:
        """The name of its samples."""
        ends = {Kind.COUNTER: "_total", Kind.INFO: "_info"}
        return f"{self.name}{ends.get(self.kind, '')}"

    def read(self, row: Mapping[str, Any]) -> Any:
        """Return its value in a snapshot or in the row of a listener; None if it has none."""
        value: Any = row
        for key in self.path:
            if value is None:
                return None
            value = value.get(key)
        if self.known and isinstance(value, Mapping):
            return {**dict.fromkeys(self.known, 0), **value}
        return value


def _values(reasons: type[Enum]) -> tuple[str, ...]:
    return tuple(reason.value for reason in reasons)


COUNTER, GAUGE, HISTOGRAM, INFO = Kind

LISTENER_FAMILIES = (
    Family(
        COUNTER,
        "netsrv_connections_accepted",
        "Connections that were served.",
        ("connections", "accepted"),
    ),
    Family(GAUGE, "netsrv_connections_active", "Live connections.", ("connections", "now")),
    Family(
        GAUGE,
        "netsrv_connections_peak",
        "The most connections at once since the start of the listener.",
        ("connections", "most"),
    ),
    Family(
        GAUGE,
        "netsrv_connections_limit",
        "The most connections that the listener may have: max_connections, or the descriptors.",
        ("connections", "limit"),
    ),
    Family(
        GAUGE,
        "netsrv_connections_pending",
        "Connections whose PROXY header or TLS handshake is awaited.",
        ("connections", "pending"),
        ("stage",),
    ),
    Family(
        COUNTER,
        "netsrv_connections_refused",
        "Connections that were not served.",
        ("connections", "refused"),
        ("reason",),
        _values(RejectReason),
    ),
    Family(
        COUNTER,
        "netsrv_connections_closed",
        "Connections that have ended.",
        ("connections", "closed"),
        ("reason",),
        _values(CloseReason),
    ),
    Family(
        HISTOGRAM,
        "netsrv_connection_duration_seconds",
        "How long connections were served that have ended.",
        ("duration",),
    ),
    Family(
        COUNTER,
        "netsrv_received_bytes",
        "Bytes received, on live connections too.",
        ("bytes", "received"),
    ),
    Family(COUNTER, "netsrv_sent_bytes", "Bytes sent, on live connections too.", ("bytes", "sent")),
    Family(
        COUNTER,
        "netsrv_datagrams_received",
        "Datagrams that went to the service.",
        ("datagrams", "received"),
    ),
    Family(COUNTER, "netsrv_datagrams_sent", "Datagrams that were sent.", ("datagrams", "sent")),
    Family(
        COUNTER,
        "netsrv_datagrams_dropped",
        "Datagrams that were not served, or not sent.",
        ("datagrams", "dropped"),
        ("reason",),
        _values(DropReason),
    ),
    Family(
        COUNTER,
        "netsrv_kernel_drops",
        "Datagrams that the kernel has dropped because the socket's buffer was full.",
        ("datagrams", "kernel_drops"),
    ),
    Family(
        COUNTER,
        "netsrv_accept_errors",
        "Connections that could not be accepted.",
        ("errors", "accept"),
    ),
    Family(
        COUNTER,
        "netsrv_service_failures",
        "Exceptions that the service has raised.",
        ("errors", "service"),
    ),
    Family(
        GAUGE,
        "netsrv_listener_suspended",
        "1 if new peers wait or are rejected, because of a limit or of the listener's owner.",
        ("suspended",),
    ),
    Family(
        COUNTER,
        "netsrv_proxy_headers",
        "Headers of the PROXY protocol, by version and result.",
        ("proxy", "headers"),
        ("version", "result"),
    ),
    Family(
        COUNTER,
        "netsrv_tls_handshakes",
        "TLS handshakes, by result.",
        ("tls", "handshakes"),
        ("result",),
    ),
    Family(
        HISTOGRAM,
        "netsrv_tls_handshake_duration_seconds",
        "Seconds from the accept to the end of a completed TLS handshake.",
        ("tls", "duration"),
    ),
    Family(
        COUNTER,
        "netsrv_forward_connect_errors",
        "Upstreams of the service forward that could not be reached, by reason.",
        ("forward", "connect_errors"),
        ("reason",),
        ("refused", "timeout", "lookup", "unreachable", "error", "fault"),
    ),
    Family(GAUGE, "netsrv_faults_active", "Faults on purpose.", ("faults_active",)),
    Family(
        COUNTER,
        "netsrv_fault_hits",
        "Connections, chunks or datagrams that a fault on purpose has hit, while it is active.",
        ("fault_hits",),
        ("fault",),
    ),
    Family(GAUGE, "netsrv_listener_failed", "1 if the listener's socket has failed.", ("failed",)),
)
"""The metrics with the label ``listener``."""

SERVER_FAMILIES = (
    Family(INFO, "netsrv_build", "The versions that run.", ("build",)),
    Family(GAUGE, "netsrv_ready", "1 if the server is ready, as /readyz says.", ("ready",)),
    Family(GAUGE, "netsrv_draining", "1 if the server is ending.", ("draining",)),
    Family(
        GAUGE,
        "netsrv_process_connections_limit",
        "The most connections that all listeners may have: the descriptors of the process.",
        ("connections", "limit"),
    ),
    Family(
        GAUGE,
        "netsrv_loop_lag_seconds",
        "The longest delay of a timer in the last minute: one timer is due each second.",
        ("loop", "lag_most"),
    ),
    Family(
        COUNTER,
        "netsrv_stalls",
        "How often something has blocked the reactor for a second or longer.",
        ("loop", "stalls"),
    ),
    Family(
        COUNTER,
        "netsrv_stalled_seconds",
        "How long the reactor was blocked in these stalls.",
        ("loop", "stalled_seconds"),
    ),
    Family(
        COUNTER,
        "netsrv_reloads",
        "Reloads of the configuration.",
        ("config", "reloads"),
        ("result",),
    ),
    Family(
        GAUGE,
        "netsrv_config_last_reload_successful",
        "0 if the last reload has failed, and 1 otherwise.",
        ("reload_successful",),
    ),
    Family(
        GAUGE,
        "netsrv_config_last_reload_success_timestamp_seconds",
        "Unix time of the last reload that succeeded, or of the start.",
        ("reload_success_at",),
    ),
    Family(
        COUNTER,
        "netsrv_log_lines_dropped",
        "Lines of the log that were summed up (log_rate) or lost.",
        ("log_lines_dropped",),
        ("log",),
    ),
    Family(
        GAUGE,
        "netsrv_tls_certificate_expiry_timestamp_seconds",
        "Unix time until which a certificate is valid.",
        ("certificate_expiry",),
        ("certificate",),
    ),
    Family(
        COUNTER,
        "netsrv_tls_certificate_renewals",
        "Renewals of certificates while the server ran, by result.",
        ("certificate_renewals",),
        ("result",),
    ),
)
"""The metrics of the whole server."""

WORKER_FAMILIES = (
    Family(GAUGE, "netsrv_workers", "Workers that serve.", ("workers", "count")),
    Family(
        COUNTER,
        "netsrv_worker_restarts",
        "Workers that have ended unasked: by their exit, by a signal, or killed since they were "
        "silent or did not start in time.",
        ("workers", "restarts"),
        ("reason",),
    ),
    Family(
        GAUGE,
        "netsrv_worker_connections_active",
        "Live connections of each worker.",
        ("workers", "by_index", "connections"),
        ("worker",),
    ),
    Family(
        COUNTER,
        "netsrv_worker_connections_accepted",
        "Connections that each worker has served, with those that it has replaced.",
        ("workers", "by_index", "accepted"),
        ("worker",),
    ),
    Family(
        COUNTER,
        "netsrv_worker_datagrams_received",
        "Datagrams that each worker has received, with those that it has replaced.",
        ("workers", "by_index", "datagrams"),
        ("worker",),
    ),
    Family(
        COUNTER,
        "netsrv_worker_cpu_seconds",
        "CPU time of each worker, with those that it has replaced.",
        ("workers", "by_index", "cpu_seconds"),
        ("worker",),
    ),
    Family(
        GAUGE,
        "netsrv_worker_resident_memory_bytes",
        "Memory in use of each worker.",
        ("workers", "by_index", "resident"),
        ("worker",),
    ),
)
"""The metrics of a master."""

PROCESS_FAMILIES = (
    Family(
        COUNTER,
        "process_cpu_seconds",
        "CPU time of the process in user and system mode.",
        ("process", "cpu_seconds"),
    ),
    Family(
        GAUGE,
        "process_resident_memory_bytes",
        "Memory in use.",
        ("process", "resident_bytes"),
    ),
    Family(GAUGE, "process_virtual_memory_bytes", "Address space.", ("process", "virtual_bytes")),
    Family(GAUGE, "process_open_fds", "Open descriptors.", ("process", "open_descriptors")),
    Family(
        GAUGE,
        "process_max_fds",
        "The most descriptors that the process may have.",
        ("process", "max_descriptors"),
    ),
    Family(
        GAUGE,
        "process_start_time_seconds",
        "Unix time of the start of the process.",
        ("process", "start"),
    ),
)
"""The usual metrics of a process."""
