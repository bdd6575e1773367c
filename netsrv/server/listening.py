"""What stream listeners and datagram listeners have in common."""

from typing import Protocol

from netsrv.gate import Gate
from netsrv.guards.limits import Limits


class Listener(Protocol):
    """A socket with its gate and its service, put together."""

    gate: Gate

    @property
    def kernel_drops(self) -> int | None:
        """Datagrams that the kernel has dropped; None for streams, or if unknown."""

    def start(self) -> None:
        """Start the service, and accept or receive."""

    def suspend(self) -> None:
        """Stop accepting or receiving; the socket stays bound, and peers wait in the kernel."""

    def resume(self) -> None:
        """Accept or receive again, first what has waited."""

    def take_down(self) -> None:
        """Refuse peers, as if there were no server; `bring_up` ends that."""

    def bring_up(self, backlog: int) -> None:
        """Let peers come again; the listener is suspended still."""

    def drain(self) -> None:
        """Take the backlog, then stop; live connections go on."""

    def detach(self) -> None:
        """Stop, and leave the socket and its backlog to another listener."""

    def set_limits(self, limits: Limits) -> None:
        """Apply other limits to new connections and datagrams."""

    @property
    def failed(self) -> bool:
        """True if the socket has failed for good, or is closed."""

    @property
    def failure(self) -> str:
        """Why the socket has failed; empty if it has not, or is open again."""

    @property
    def limit_reached(self) -> str:
        """The limit that keeps new connections from being served; empty if there is none."""
