"""Attributes of an object that are those of another object behind it, a transport mostly."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from zope.interface import implementer
from zope.interface.interface import InterfaceClass

ClassT = TypeVar("ClassT", bound=type)


def forward(behind: str, *members: Any) -> Callable[[ClassT], ClassT]:
    """Make *members* of a class those of the object in its attribute *behind*.

    A member is a name, or an interface, which stands for all of its names and is declared for
    the class.  What the class defines itself stays::

        @forward("port", IUDPTransport, "socket")
        class Transport: ...

    A ``__getattr__`` would do the same, and make every lookup of any attribute slow.
    """

    def decorate(kind: ClassT) -> ClassT:
        for member in members:
            names = [member]
            if isinstance(member, InterfaceClass):
                implementer(member)(kind)
                names = list(member.names(all=True))
            for name in names:
                if name not in vars(kind):
                    setattr(kind, name, property(attrgetter(f"{behind}.{name}")))
        return kind

    return decorate


def unsent_of(transport: Any) -> int:
    """Return the bytes that were written to a transport and wait because the peer does not read.

    The uvloop reactor's connections count them.  Twisted's transports do not; their buffers
    are those of `twisted.internet.abstract.FileDescriptor`.  Any other transport's count is 0.
    """
    counted: int | None = getattr(transport, "unsent", None)
    if counted is not None:
        return counted
    buffered = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return buffered + int(getattr(transport, "_tempDataLen", 0))
