"""What the status server asks of the server that it is about."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from netsrv.interfaces import ListenerInfo

Snapshot = dict[str, Any]
"""The state of a server at one time, in plain values: the keys of ``/status.json``.

Each listener is an `EncodedListener`.  A thousand of them as plain values would be so many objects
that the garbage collector examined all those of the process at every other snapshot.
"""


@frozen
class EncodedListener:
    """A listener of a snapshot: two objects in JSON."""

    state: str
    """What changes by itself: the state and the counts."""
    settings: str
    """The keys ``options`` and ``limits``, which change with the configuration only."""


class ServerState(StrEnum):
    """What the server does; the value is the word in the status."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@frozen
class Sample:
    """The counts of one listener at one time."""

    listener: ListenerInfo
    connections: int
    counts: tuple[int, ...]
    """In the order of `netsrv.status.history.RATES`; they never fall."""


class StatusSource(Protocol):
    """A server, as the status server sees it."""

    @property
    def state(self) -> ServerState:
        """What the server does."""

    def failed_listeners(self) -> list[str]:
        """Return a line for each listener that does not serve."""

    def id_of(self, listener: ListenerInfo) -> str:
        """Return the unique name of a listener in the status and in metrics."""

    def reload_events(self) -> list[dict[str, Any]]:
        """Return the last reloads, in the form of the events of the status."""

    @property
    def lag(self) -> float:
        """The delay of the last timer of a second, in seconds."""

    def take_snapshot(self) -> Deferred[Snapshot]:
        """Take a snapshot in slices; it has all that happened before the call."""

    def take_samples(self) -> Deferred[Sequence[Sample]]:
        """Read the counts of all listeners in slices."""
