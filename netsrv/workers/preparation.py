"""What a master opens before there is a reactor: the sockets, the status, the access log."""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from netsrv.config.model import MAX_WORKERS, Configuration, ListenerSettings
from netsrv.files import LogFile
from netsrv.registry import Registry, find_services
from netsrv.server.certificates import certificate_warnings, load_certificates
from netsrv.server.factories import build_factory, check_protocols
from netsrv.server.prepare import open_access_log
from netsrv.sockets.inherited import unused_sockets
from netsrv.status.opening import NO_STATUS_SERVER, PreparedStatus, open_status
from netsrv.workers.sockets import SharedListener, close_shared, expand_indexed, open_shared
from netsrv.workers.upgrade import Handover, take_socket

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The time that a container has of each period, in microseconds (cgroups(7))."""


@frozen
class PreparedWorkers:
    """All parts of a master that need no reactor."""

    listeners: list[SharedListener]
    problems: tuple[str, ...]
    access_log: LogFile | None
    status: PreparedStatus
    handover: Handover | None = None
    """What an earlier program of this process has left."""

    def close(self) -> None:
        """Close all sockets, and the access log."""
        close_shared(self.listeners)
        self.status.close()
        if self.access_log is not None:
            self.access_log.close()


def prepare_workers(
    configuration: Configuration,
    registry: Registry | None = None,
    handover: Handover | None = None,
) -> PreparedWorkers:
    """Open all sockets, or take those of *handover*.

    The services are built too, so that an error is known at the start.  Raises
    `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket is open.
    """
    listeners = expand_indexed(configuration.listeners)
    registry = registry or find_services()
    wanted = [settings for _, settings in listeners]
    check_protocols(wanted, [build_factory(settings, registry) for settings in wanted])
    oddities = certificate_warnings(load_certificates(wanted).values())
    count = worker_count(configuration)
    handed = None
    if handover is None:
        shared = open_shared(listeners, count, configuration.worker_selection)
    else:
        shared = _take_shared(handover, listeners)
        handed = [take_socket(entry) for entry in handover.status_sockets]
    status = NO_STATUS_SERVER
    try:
        status = open_status(configuration.status, sockets=handed)
        access_log = open_access_log(configuration)
    except BaseException:
        status.close()
        close_shared(shared)
        raise
    problems = (*registry.problems, *(unused_sockets() if handover is None else ()), *oddities)
    return PreparedWorkers(shared, problems, access_log, status, handover)


def _take_shared(
    handover: Handover, listeners: Sequence[tuple[int, ListenerSettings]]
) -> list[SharedListener]:
    """Return the listeners that were handed over, by the configuration that they had."""
    return [
        SharedListener(index, settings, [take_socket(handed) for handed in entry.sockets])
        for (index, settings), entry in zip(listeners, handover.listeners, strict=True)
    ]


def worker_count(configuration: Configuration) -> int:
    """Return how many workers there are to be: by default one for each core."""
    return configuration.workers or min(core_count(), MAX_WORKERS)


def core_count() -> int:
    """Return how many cores this process may use at once: by its affinity and its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with suppress(OSError, ValueError):
        quota, period = map(float, CPU_QUOTA.read_text().split())  # "max" is no number
        return max(1, min(cores or 1, math.ceil(quota / period)))
    return cores or 1
