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
    method.sends_back = True  # type: ignore[attr-defined]
    return method


def is_sent_back(protocol: object) -> bool:
    """Return whether a protocol's ``dataReceived`` is one that `sends_back` marks."""
    return getattr(getattr(protocol, "dataReceived", None), "sends_back", False)


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
