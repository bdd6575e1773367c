"""What the reactor offers beyond Twisted's interfaces."""

from zope.interface import Attribute, Interface


class IAcceptedConnection(Interface):
    """A connection that was accepted and is not served yet."""

    def getHandle():  # type: ignore[no-untyped-def]
        """Give its socket, for socket options; it stays the connection's own."""

    def serve(factory):  # type: ignore[no-untyped-def]
        """Have it served by what *factory* builds; if that is None, close it."""

    def close():  # type: ignore[no-untyped-def]
        """Close it."""

    def reset():  # type: ignore[no-untyped-def]
        """Reset it: the peer gets RST."""


class IAcceptor(Interface):
    """Accepts the connections of a listening socket."""

    accepting = Attribute("Whether the loop runs, be it in a pause.")
    pending = Attribute("Whether somebody is accepted who is served in the next turn.")

    def resume():  # type: ignore[no-untyped-def]
        """Accept from now on, first who was held when the loop was stopped."""

    def suspend():  # type: ignore[no-untyped-def]
        """Accept no more.  The socket stays open: clients connect, and wait."""

    def drain():  # type: ignore[no-untyped-def]
        """Accept all who wait by now, and then nobody any more."""

    def detach():  # type: ignore[no-untyped-def]
        """Accept nobody any more, and close who was held; who is coming is still served."""

    def close_pending():  # type: ignore[no-untyped-def]
        """Close the connections that were held, if there are any."""


class IStreamAcceptor(Interface):
    """A reactor that accepts connections in a loop of its own."""

    def acceptStreams(sock, serve, failed, gone, may_accept):  # type: ignore[no-untyped-def]
        """Give an `IAcceptor` for the listening socket *sock*, not started yet.

        ``serve(newcomer, sockaddr)`` is called with each connection, an `IAcceptedConnection`, and
        its peer's address as ``accept`` gives it.  ``failed(error)`` is told of each
        OSError of accepting or of *serve*.  ``gone(error)`` is told, once, when the
        listening socket has failed for good.  ``may_accept()`` is asked before each
        connection; who says no has stopped the loop, or will.
        """
