"""Shortcuts past a method of a service, and when a listener may take them."""

from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def sends_back(method: Method) -> Method:
    """Mark a ``dataReceived`` that writes what it gets to its transport, and does no more.

    A listener may do that without calling it.  The protocol must write nothing else once
    ``connectionMade`` has returned, since the order would not be kept.  A subclass that overrides
    the method is called, unless it marks its own.
    """
    method.shortcut = "sendBack"  # type: ignore[attr-defined]
    return method


def drops(method: Method) -> Method:
    """Mark a ``dataReceived`` that does nothing, so that a listener need not call it."""
    method.shortcut = "dropInput"  # type: ignore[attr-defined]
    return method


def shortcut_of(protocol: object) -> str | None:
    """Return the method of the uvloop reactor's transports that does what ``dataReceived`` does.

    None if the protocol has to be called.
    """
    return getattr(getattr(protocol, "dataReceived", None), "shortcut", None)


def defined_last(instance: object, fast: str, plain: str) -> bool:
    """Return whether the method *fast* of an object does what its method *plain* does.

    A subclass that overrides only *plain* would be bypassed by *fast*, which it has inherited.
    """
    if plain in getattr(instance, "__dict__", ()):
        return False
    for kind in type(instance).__mro__:
        if fast in vars(kind):
            return True
        if plain in vars(kind):
            return False
    return False
