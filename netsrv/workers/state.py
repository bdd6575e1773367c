"""The state of a worker, as it sends it to the master."""

from collections.abc import Callable, Sequence
from typing import Any

from netsrv.gate import Gate
from netsrv.server.server import Server
from netsrv.status.recent import keep_recent
from netsrv.status.source import Snapshot


class StateReader:
    """Reads the state of *server*, and keeps its last events; *clock* provides IReactorTime.

    *send* takes a state: the snapshot, with each listener as JSON; what keeps listeners from
    serving; and the last events.
    """

    def __init__(self, clock: Any, server: Server, send: Callable[[Any], None]) -> None:
        self._server = server
        self._send = send
        self._recent = keep_recent(clock)
        self._described = False
        self._gates: Sequence[Gate] = ()

    def start(self) -> None:
        """Keep events from now on: those of the start are the master's."""
        for recent in self._recent.values():
            recent.start(self._server.observers)

    def read(self) -> None:
        """Read the state, in slices unless the server drains, and send it."""
        if self._gates:
            self._send_snapshot(self._server.status.read_last(self._gates))
        else:
            self._server.status.take_snapshot().addCallback(self._send_snapshot)

    def begin_drain(self) -> None:
        """Note the listeners before they are closed: their last counts are still to be sent."""
        self._gates = self._server.status.listeners.gates
        self._server.counters.forgets = False

    def end(self) -> None:
        """Send the last counts, and keep no more events."""
        for recent in self._recent.values():
            recent.stop()
        self._send_snapshot(self._server.status.read_last(self._gates))

    def _send_snapshot(self, snapshot: Snapshot) -> None:
        status = self._server.status
        rows = snapshot.pop("listeners")
        settings = [] if self._described else [row.settings for row in rows]
        self._described = True
        self._send(
            {
                "server": snapshot,
                "listeners": [row.state for row in rows],
                "settings": settings,  # with the first state only: they never change
                "failed": status.failed_listeners(),
                "recent": {
                    name: recent.entries(status.id_of) for name, recent in self._recent.items()
                },
            }
        )
