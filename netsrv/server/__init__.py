"""The server, which puts listeners together, drains them and reloads them."""

from typing import TYPE_CHECKING, Any

from netsrv.config import listener
from netsrv.server.drain import Drained

if TYPE_CHECKING:
    from netsrv.server.server import Server

__all__ = ["Drained", "Server", "listener"]


def __getattr__(name: str) -> Any:
    """Import the server when it is asked for: an error at the start does not pay for it."""
    if name != "Server":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from netsrv.server.server import Server

    return Server


def __dir__() -> list[str]:
    """Name the server too, which is not imported yet: for completion, and for Sphinx."""
    return __all__
