"""The status of a master: the sum of its workers, and each of them."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from attrs import asdict, define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from netsrv import __version__
from netsrv.config.model import Configuration, ConfigurationError
from netsrv.config.status import StatusSettings
from netsrv.files import LogFile
from netsrv.interfaces import ListenerInfo
from netsrv.observers.dispatch import ObserverDispatcher
from netsrv.server.reloads import ReloadHistory
from netsrv.server.status import CONTRACT, describe_reloads
from netsrv.status.document import encode
from netsrv.status.opening import PreparedStatus
from netsrv.status.process import START, process_facts
from netsrv.status.recent import MAX_ENTRIES
from netsrv.status.source import EncodedListener, Sample, ServerState, Snapshot
from netsrv.workers.merging import (
    Row,
    add,
    counts_of,
    merge_loops,
    merge_processes,
    merge_rows,
    merge_sources,
    total,
    without_gauges,
)
from netsrv.workers.pool import Process, WorkerPool
from netsrv.workers.supervision import Phase

ANSWER_TIMEOUT = 1.0
"""Seconds to wait for the states of workers; the last state of a silent one is used."""

WORKER_COUNTS = ("accepted", "datagrams", "cpu_seconds")


@define
class Ended:
    """The counts of all workers that have ended."""

    rows: dict[str, Row] = field(factory=dict)
    """By the names of listeners."""
    loop: Row | None = None
    log_lines_dropped: Row | None = None
    renewals: Row | None = None
    cpu_seconds: float = 0.0
    by_index: dict[int, Row] = field(factory=dict)
    """The `WORKER_COUNTS` by the indices of workers."""


@define(eq=False, kw_only=True)
class WorkersStatus:
    """The source of the status of a master.

    *configuration* returns the configuration in effect, *access_log* the file of the access log.
    """

    log: ClassVar[Logger] = Logger()

    reactor: Any
    pool: WorkerPool
    configuration: Callable[[], Configuration]
    reloads: ReloadHistory
    access_log: Callable[[], LogFile | None]
    state: ServerState = ServerState.STARTING
    """What the server does."""
    ended: Ended = field(factory=Ended)
    _started_at: float = field(factory=time.time)
    _most: dict[str, int] = field(factory=dict)
    _infos: dict[str, ListenerInfo] = field(factory=dict)
    _waiters: list[tuple[Deferred[Snapshot], set[Process]]] = field(factory=list)
    _service: Any = None

    # The status server

    def start(self, prepared: PreparedStatus, now: Callable[[], float]) -> dict[str, str]:
        """Start the status server; return what is served where."""
        if not prepared.settings.wanted:
            return {}
        from netsrv.status.service import StatusService  # twisted.web takes 100 ms to import

        recent = {name: _Recent(self, name) for name in ("refusals", "endings", "events")}
        self._service = StatusService(
            self.reactor, prepared, self, ObserverDispatcher(), now, recent
        )
        self._service.start()
        urls: dict[str, str] = self._service.urls
        return urls

    def update(self, settings: StatusSettings) -> None:
        """Use other settings; if there is no token by them, the present one stays."""
        if self._service is not None:
            try:
                token = self._service.read_token(settings)
            except ConfigurationError as error:
                self.log.error("{error}", error=str(error))
            else:
                self._service.update(settings, token)

    def stop(self) -> None:
        """Stop the status server."""
        if self._service is not None:
            self._service.stop()
            self._service = None

    # An upgrade

    def hand_over(self) -> Row:
        """Return the counts for the next program of this process."""
        ended = asdict(self.ended)
        ended["by_index"] = list(self.ended.by_index.items())
        return {
            "ended": ended,
            "most": self._most,
            "started_at": self._started_at,
            "restarts": self.pool.supervisor.restarts,
            "reloads": self.reloads.counts,
        }

    def take_over(self, handed: Row) -> None:
        """Go on with the counts that the program before this one has left."""
        ended = handed["ended"]
        self.ended = Ended(**{**ended, "by_index": dict(ended["by_index"])})
        self._most, self._started_at = handed["most"], handed["started_at"]
        self.pool.supervisor.restarts.update(handed["restarts"])
        self.reloads.counts.update(handed["reloads"])
        self.state = ServerState.READY

    # What workers say

    def received(self, process: Process, state: Any) -> None:
        """Keep the state of a worker, and answer if it was the last one that is waited for."""
        state["listeners"] = [json.loads(text) for text in state["listeners"]]
        if not state["settings"]:
            state["settings"] = process.state["settings"] if process.state else []
        process.state = state
        self._answered(process)

    def worker_ended(self, process: Process) -> None:
        """Add the last counts of a worker to those of all that have ended."""
        index, counts = process.worker.index, _counts_of(process)
        self.ended.by_index[index] = add(self.ended.by_index.get(index), counts)
        if process.state is not None:
            server = process.state["server"]
            for row in process.state["listeners"]:
                before = self.ended.rows.get(row["name"])
                self.ended.rows[row["name"]] = add(before, without_gauges(row))
            self.ended.loop = add(self.ended.loop, server["loop"])
            dropped = server["log_lines_dropped"]
            self.ended.log_lines_dropped = add(self.ended.log_lines_dropped, dropped)
            self.ended.renewals = add(self.ended.renewals, server["certificate_renewals"])
            self.ended.cpu_seconds += server["process"]["cpu_seconds"]
        self._answered(process)

    def _answered(self, process: Process) -> None:
        for waiter, asked in list(self._waiters):
            asked.discard(process)
            if not asked:
                self._answer(waiter)

    def _answer(self, waiter: Deferred[Snapshot]) -> None:
        self._waiters = [entry for entry in self._waiters if entry[0] is not waiter]
        if not waiter.called:
            waiter.callback(self._merge())

    # StatusSource

    def failed_listeners(self) -> list[str]:
        """Return a line for each listener that does not serve, or if no worker does."""
        serving = [one for one in self._processes if one.worker.phase is Phase.SERVING]
        if not serving:
            return ["no worker serves"]
        lines = [line for one in serving if one.state for line in one.state["failed"]]
        return list(dict.fromkeys(lines))

    def id_of(self, listener: ListenerInfo) -> str:
        """Return the unique name of a listener in the status and in metrics."""
        return str(listener)

    def reload_events(self) -> list[dict[str, Any]]:
        """Return the last reloads, in the form of the events of the status."""
        return self.reloads.events()

    @property
    def lag(self) -> float:
        """The longest delay of the last timer of a second, in seconds."""
        return max((server["loop"]["lag"] for server in self._servers()), default=0.0)

    def take_snapshot(self) -> Deferred[Snapshot]:
        """Ask all workers for their states, and merge them."""
        waiter: Deferred[Snapshot] = Deferred()
        asked = {
            one for one in self._processes if one.worker.phase not in (Phase.BOOTING, Phase.READY)
        }
        self._waiters.append((waiter, asked))
        for process in asked:
            process.channel.send(state=True)
        timer = self.reactor.callLater(ANSWER_TIMEOUT if asked else 0, self._answer, waiter)

        def cancel(snapshot: Snapshot) -> Snapshot:
            if timer.active():
                timer.cancel()
            return snapshot

        return waiter.addCallback(cancel)

    def take_samples(self) -> Deferred[Sequence[Sample]]:
        """Return the counts of all listeners, as the workers have sent them last."""
        samples: Deferred[Sequence[Sample]] = Deferred()
        samples.callback(
            [
                Sample(self._info_of(row), *counts_of(row))
                for row in self._merge_listeners().values()
            ]
        )
        return samples

    def recent(self, kind: str) -> list[Row]:
        """Return the last events of a kind, the newest last."""
        entries = [
            entry
            for process in self._processes
            if process.state is not None
            for entry in process.state["recent"][kind]
        ]
        return sorted(entries, key=lambda entry: float(entry["time"]))[-MAX_ENTRIES:]

    # Merging

    @property
    def _processes(self) -> list[Process]:
        return list(self.pool.processes.values())

    def _servers(self) -> list[Row]:
        """Return the states of the workers, without their listeners."""
        return [one.state["server"] for one in self._processes if one.state is not None]

    def _merge_listeners(self) -> dict[str, Row]:
        """Return the rows of all listeners by their names."""
        live: dict[str, list[Row]] = {}
        for process in self._processes:
            for row in process.state["listeners"] if process.state is not None else ():
                live.setdefault(row["name"], []).append(row)
        limited = {
            settings.address_label
            for settings in self.configuration().listeners
            if settings.limits.max_connections is not None
        }
        merged = {}
        for name, rows in live.items():
            label = f"{rows[0]['transport']} {rows[0]['address']}"
            most = self._most.get(name, 0)
            row = merge_rows(rows, self.ended.rows.get(name), label in limited, most)
            if row["connections"] is not None:
                self._most[name] = row["connections"]["most"]
            merged[name] = row
        return merged

    def _info_of(self, row: Row) -> ListenerInfo:
        """Return the same identity for all rows of a listener."""
        return self._infos.setdefault(
            row["name"], ListenerInfo(row["transport"], row["address"], row["service"])
        )

    def _merge(self) -> Snapshot:
        listeners, servers = self._merge_listeners(), self._servers()
        settings: dict[str, str] = {}
        names: dict[str, str] = {}
        for process in self._processes:
            state = process.state or {"listeners": (), "settings": ()}
            for row, described in zip(state["listeners"], state["settings"], strict=False):
                settings[row["name"]] = described
                names[row["id"]] = row["name"]
        rows = [EncodedListener(encode(row), settings[name]) for name, row in listeners.items()]
        reasons = [] if self.state is ServerState.READY else [f"the server is {self.state}"]
        reasons += self.failed_listeners()
        connections = sum(server["connections"]["now"] for server in servers)
        self._most[""] = max(self._most.get("", 0), connections)
        processes = [process_facts(), *(server["process"] for server in servers)]
        return {
            "contract": CONTRACT,
            "version": __version__,
            "reactor": servers[0]["reactor"] if servers else type(self.reactor).__name__,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": self._started_at,
            "now": time.time(),
            "state": str(self.state),
            "ready": not reasons,
            "reasons": reasons,
            "connections": {
                "now": connections,
                "most": self._most[""],
                "limit": sum(server["connections"]["limit"] for server in servers),
            },
            "config": describe_reloads(self.configuration(), self.reloads, self._started_at),
            "loop": merge_loops([server["loop"] for server in servers], self.ended.loop),
            "process": merge_processes(processes, self.ended.cpu_seconds, START),
            **self._merge_logs(servers),
            "certificates": servers[0]["certificates"] if servers else [],
            "certificate_renewals": self._sum(servers, "certificate_renewals", self.ended.renewals),
            "faults": [],
            "workers": self._describe_workers(),
            "sources": merge_sources((server["sources"] for server in servers), names),
            "listeners": rows,
        }

    def _sum(self, servers: Sequence[Row], key: str, ended: Row | None) -> Row:
        return total([ended, *(server[key] for server in servers)]) or {}

    def _merge_logs(self, servers: Sequence[Row]) -> Row:
        access_log = self.access_log()
        lost = sum(getattr(stream, "dropped", 0) for stream in (sys.stdout, sys.stderr))
        dropped = self._sum(servers, "log_lines_dropped", self.ended.log_lines_dropped)
        own = {"log_rate": 0, "output": lost, "access_log": access_log.dropped if access_log else 0}
        return {
            "log_lines_dropped": add(dropped, own),
            "access_log": access_log and {"path": access_log.path, "dropped": access_log.dropped},
        }

    def _describe_workers(self) -> Row:
        """Return the keys of ``workers``: tables by index for metrics, and a list of processes."""
        by_index: dict[str, dict[str, Any]] = {name: {} for name in ("connections", "resident")}
        for name in WORKER_COUNTS:
            by_index[name] = {
                str(index): counts[name] for index, counts in self.ended.by_index.items()
            }
        processes = []
        for process in self._processes:
            row = _describe(process)
            processes.append(row)
            index = str(process.worker.index)
            for name in ("connections", "resident", *WORKER_COUNTS):
                by_index[name][index] = add(by_index[name].get(index), row[name])
        supervisor = self.pool.supervisor
        return {
            "count": supervisor.serving,
            "wanted": supervisor.target.count,
            "restarts": dict(supervisor.restarts),
            "by_index": by_index,
            "processes": processes,
        }


def _counts_of(process: Process) -> Row:
    """Return the `WORKER_COUNTS` of a worker."""
    seconds = process.state["server"]["process"]["cpu_seconds"] if process.state else 0.0
    counts = process.counts
    return {
        "accepted": counts.get("accepted", 0),
        "datagrams": counts.get("datagrams", 0),
        "cpu_seconds": seconds,
    }


def _describe(process: Process) -> Row:
    facts: Mapping[str, Any] = process.state["server"]["process"] if process.state else {}
    return {
        "index": process.worker.index,
        "pid": process.pid,
        "state": process.worker.phase.value,
        "start": facts.get("start"),
        "connections": process.counts.get("connections", 0),
        "resident": facts.get("resident_bytes") or 0,
        **_counts_of(process),
    }


@define
class _Recent:
    """The last events of one kind, as `StatusService` reads them."""

    status: WorkersStatus
    kind: str

    def start(self, _observers: ObserverDispatcher) -> None:
        """Do nothing: the workers keep the events."""

    def stop(self) -> None:
        """Do nothing."""

    def entries(self, _name: Callable[[ListenerInfo], str]) -> list[Row]:
        """Return the events, the newest last."""
        return self.status.recent(self.kind)
