"""A fault that a user has written, before its listener is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from netsrv.settings import InvalidValues, KeyPath

if TYPE_CHECKING:
    from netsrv.faults.fault import FaultSettings

FAULT_OPTION = "TYPE[:KEY=VALUE,...]"

Errors = tuple[tuple[KeyPath, str], ...]


@frozen
class Fault:
    """A fault that a user has written, for the transport that a listener has."""

    type: str
    name: str
    of_streams: FaultSettings | Errors | None
    of_datagrams: FaultSettings | Errors | None
    """The fault itself, what is wrong with it there, or None if there is no such fault."""

    def settings(self, is_stream: bool) -> FaultSettings | None:
        """Return the fault of a stream or datagram listener; None if there is no such fault.

        Raises `InvalidValues`.
        """
        found = self.of_streams if is_stream else self.of_datagrams
        if isinstance(found, tuple):
            raise InvalidValues(found)
        return found
