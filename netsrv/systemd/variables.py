"""The environment variables by which systemd offers its services to a process."""

from collections.abc import MutableMapping

from attrs import frozen

NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE")


@frozen
class Variables:
    """What the service manager offers."""

    notify_socket: str = ""
    """The address to which messages go: a path, or ``@`` and an abstract name; empty for none."""
    watchdog_timeout: float = 0.0
    """Seconds without a message after which the process is restarted; 0 for never."""
    store_size: int = 0
    """Descriptors that the store takes."""


def take_variables(environ: MutableMapping[str, str], pid: int) -> Variables:
    """Return what is offered to the process *pid*, and remove the variables: children have none."""
    values = {name: environ.pop(name, "") for name in NAMES}
    microseconds = _number(values["WATCHDOG_USEC"])
    if values["WATCHDOG_PID"] not in ("", str(pid)):
        microseconds = 0
    return Variables(values["NOTIFY_SOCKET"], microseconds / 1_000_000, _number(values["FDSTORE"]))


def _number(text: str) -> int:
    """Return a whole number; 0 for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
