"""A Twisted reactor on uvloop, for any Twisted program: ``--reactor=uvloop``.

It imports nothing of the rest of netsrv.
"""

from typing import Any


def install() -> None:
    """Make a reactor on uvloop the reactor of this process.

    Raises ReactorAlreadyInstalledError if there is one.
    """
    from netsrv.uvreactor import reactor

    reactor.install()


def __getattr__(name: str) -> Any:
    """Import `UvloopReactor` when it is asked for: the reactor imports much of Twisted."""
    if name != "UvloopReactor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from netsrv.uvreactor.reactor import UvloopReactor

    return UvloopReactor
