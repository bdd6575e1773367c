"""Faults that a test adds to a running server."""

from typing import Any

from netsrv.config.fault_reading import read_fault
from netsrv.faults.fault import Fault
from netsrv.faults.methods import ActiveFault, FaultCount, FaultMethods, hits_of
from netsrv.faults.table import FaultTable
from netsrv.server.listeners import RunningListener
from netsrv.settings import InvalidValues


class FaultInjector:
    """Adds faults to a running listener, and keeps their counts after they have ended."""

    def __init__(self, listener: RunningListener) -> None:
        self._listener = listener
        self._added: dict[str, Fault] = {}

    @property
    def _table(self) -> FaultTable:
        return self._listener.faults

    def add(self, kind: str, keys: dict[str, Any]) -> str:
        """Add a fault, and return its name.  Raises ValueError."""
        transport = self._listener.settings.transport
        try:
            settings = read_fault({"type": kind, **keys}).settings(transport.is_stream)
        except InvalidValues as error:
            raise ValueError(_describe(kind, error)) from None
        if settings is None:
            raise ValueError(f"{kind!r}: there is no such fault on {transport}")
        if settings.name in self._table.faults:
            raise ValueError(
                f"{kind}: a fault is named {settings.name!r} already: name=... gives another name"
            )
        self._added[settings.name] = self._table.add(settings)
        return settings.name

    def remove(self, name: str) -> None:
        """End a fault, if it is in effect."""
        if name in self._table.faults:
            self._added[name] = self._table.faults[name]
            self._table.remove(name)

    def clear(self) -> None:
        """End all faults."""
        for name in list(self._table.faults):
            self.remove(name)

    def counts(self) -> list[FaultCount]:
        """Return the name, the type and the hits of each fault, also of those that have ended."""
        faults = {**self._added, **self._table.faults}
        return [(name, fault.settings.kind.name, fault.hits) for name, fault in faults.items()]

    def forget_ended(self) -> None:
        """Forget the counts of faults that have ended."""
        in_effect = self._table.faults
        self._added = {name: fault for name, fault in self._added.items() if name in in_effect}


def _describe(kind: str, error: InvalidValues) -> str:
    lines = []
    for keys, text in error.errors:
        shown = [] if keys == ("type",) else [kind, *map(str, keys)]  # a text about it has it
        lines.append(": ".join([*shown, text]))
    return "; ".join(lines)


class InjectedFaults(FaultMethods):
    """The faults of a server of `netsrv.testing`, which has one listener."""

    _injector: FaultInjector

    def settle(self) -> None:
        """Deliver what waits; a server on loopback has nothing to do."""

    def fault(self, kind: str, /, **keys: Any) -> ActiveFault:
        self.settle()
        fault = ActiveFault(self, self._injector.add(kind, keys))
        self.settle()
        return fault

    def remove_fault(self, name: str) -> None:
        self._injector.remove(name)
        self.settle()

    def clear_faults(self) -> None:
        self._injector.clear()
        self.settle()

    def reset_all(self) -> None:
        """End all faults."""
        self.clear_faults()

    def hits(self, name: str) -> int:
        self.settle()
        return hits_of(name, self._injector.counts())
