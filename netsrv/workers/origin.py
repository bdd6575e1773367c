"""What a master is given: its configuration, and the service manager."""

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from netsrv.config.model import Configuration


class Manager(Protocol):
    """The service manager, which is told of the master."""

    def ready(self) -> None:
        """Note that all workers serve."""

    def reloading(self) -> None:
        """Note that the workers are to be replaced."""

    def reloaded(self) -> None:
        """Note that they are, or that those of before go on."""


class NoManager:
    """There is no service manager."""

    def ready(self) -> None:
        """Do nothing."""

    reloading = reloaded = ready


@frozen
class Origin:
    """Where the master's configuration comes from."""

    given: list[tuple[str, Any]]
    """The options, for the workers."""
    directory: str | None
    read: Callable[[], tuple[Configuration, str | None]]
    """Reads the configuration again, and returns it with the text of its file."""
    error_lines: Callable[[BaseException], Sequence[str]]
    """Returns the lines about an error of `read`."""
    environ: Mapping[str, str]
    """The environment of the start, for the next program of this process."""
    variable: str | None
    """The environment variable by which that program finds what this one leaves; None if this
    process cannot execute it."""
    signals: Sequence[signal.Signals]
    """The signals that wait until the next program handles them."""
    program: str = "netsrv.cli.worker"
    """The module whose ``main`` is the program of a worker."""
    inherited: Sequence[int] = ()
    """Descriptors that each worker inherits besides its own."""
