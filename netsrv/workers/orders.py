"""Orders: what a worker is told at its start, in a file without a name that it inherits."""

import json
import os
from typing import Any

from attrs import asdict, frozen

from netsrv.files import open_nameless


@frozen
class SocketOrder:
    """One socket that a worker serves."""

    listener: int
    """The index of the listener in the configuration."""
    occurrence: int | None
    """Which of the sockets it is that systemd passes by the listener's name; None for no such."""
    descriptor: int
    sockaddr: Any
    """Its address, as the kernel returned it when it was bound."""
    shared: bool
    """True if other workers accept connections from it too."""
    block: int | None
    """Where the listener's limits and connections are counted; None if workers share neither."""
    column: int
    """Where this worker counts."""


@frozen
class Order:
    """All that a worker needs."""

    program: str
    """The module whose ``main`` is the worker's program."""
    version: str
    """The version of the master: another one does not know what this one means."""
    index: int
    workers: int
    """How many there are."""
    given: list[tuple[str, Any]]
    """The options of the command line and of the environment, as `netsrv.cli.start.Start` has
    them."""
    file_text: str | None
    """The text of the configuration file when it was read last; None if there is none."""
    directory: str | None
    """The working directory of the start, in which relative paths begin."""
    control: int
    """The descriptor of the socket to the master."""
    access_log: int | None
    """The descriptor of the pipe for lines of the access log; None if there is none."""
    memory: tuple[int, int] | None
    """The descriptors of the memory for limits; None if there are none."""
    sources: int
    """How many sources the memory has room for."""
    status: bool
    """True if the master serves the status, and needs its values."""
    sockets: list[SocketOrder]
    inherited: list[int]
    """Descriptors for the worker's program, whatever it makes of them."""

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that the worker inherits."""
        pipes = [self.control, *([] if self.access_log is None else [self.access_log])]
        sockets = [entry.descriptor for entry in self.sockets]
        return [*pipes, *(self.memory or ()), *sockets, *self.inherited]


def write_order(order: Order) -> int:
    """Write an order to a file without a name, and return its descriptor."""
    return write_object(asdict(order))


def read_order(descriptor: int) -> Order:
    """Read an order, and close its file.  Raises ValueError or TypeError if it is another's."""
    value = read_object(descriptor)
    sockets = [SocketOrder(**entry) for entry in value.pop("sockets")]
    given = [(name, argument) for name, argument in value.pop("given")]
    return Order(**value, sockets=sockets, given=given)


def write_object(value: Any) -> int:
    """Write a plain value to a file without a name, and return its descriptor."""
    with open(open_nameless(), "w+", encoding="ascii") as file:
        json.dump(value, file)
        file.flush()
        return os.dup(file.fileno())


def read_object(descriptor: int) -> Any:
    """Return the plain value of such a file, and close it."""
    with open(descriptor, encoding="ascii") as file:
        file.seek(0)
        return json.load(file)
