"""What the reactor offers beyond Twisted's interfaces."""

from zope.interface import Attribute, Interface


class IAcceptedConnection(Interface):
    """A connection that was accepted and is not served yet."""

    def getHandle():  # type: ignore[no-untyped-def]
        """Return its socket, for socket options; the connection still owns it."""

    def serve(factory):  # type: ignore[no-untyped-def]
        """Serve it with a protocol that *factory* builds; close it if *factory* builds none."""

    def read_early(size):  # type: ignore[no-untyped-def]
        """Return what the peer has sent already, up to *size* bytes; empty if that is nothing.

        Its protocol does not get these bytes.  For TCP only.
        """

    def close():  # type: ignore[no-untyped-def]
        """Close it; abort it if it is served already.

        What the peer has sent is read first, up to 64 KiB, so that it gets FIN and not RST.
        """

    def reset():  # type: ignore[no-untyped-def]
        """Reset it: the peer gets RST."""


class IAcceptor(Interface):
    """Accepts the connections of a listening socket."""

    accepting = Attribute("True while the acceptor runs, also during a pause after an error.")
    yields = Attribute(
        "A callable without arguments, or None: it returns True if other processes, which accept "
        "from the same socket, are to take the next connections.  Then `resume` asks again."
    )
    pending = Attribute("True if an accepted connection is served in the next turn of the reactor.")

    def resume():  # type: ignore[no-untyped-def]
        """Start accepting, or accept again, first the connections that are held."""

    def suspend():  # type: ignore[no-untyped-def]
        """Stop accepting.  The socket stays open: new connections wait in its backlog."""

    def drain():  # type: ignore[no-untyped-def]
        """Accept the connections that wait in the backlog, then detach."""

    def detach():  # type: ignore[no-untyped-def]
        """Stop accepting for good and close the held connections; pending ones are served."""

    def close_pending():  # type: ignore[no-untyped-def]
        """Close the connections that were accepted and are held until `resume`."""


class IStreamAcceptor(Interface):
    """A reactor that accepts connections in a loop of its own."""

    def acceptStreams(  # type: ignore[no-untyped-def]
        sock, serve, accept_failed, listener_failed, may_accept
    ):
        """Return an `IAcceptor` for the listening socket *sock*; `resume` starts it.

        ``serve(connection, sockaddr)`` is called with every connection, an `IAcceptedConnection`,
        and its peer's address as ``accept`` returns it.  ``accept_failed(error)`` is called with
        every OSError of accepting or of *serve*, ``listener_failed(error)`` once, when the
        listening socket has failed for good.  ``may_accept()`` is called before every accept; a
        callback that returns False must also suspend the acceptor.
        """


class ISocketServer(Interface):
    """A reactor that takes sockets that a program has connected itself."""

    def serveConnected(sock, protocol):  # type: ignore[no-untyped-def]
        """Connect *protocol* to *sock* in the next turn, and own the socket from now on.

        Returns a `asyncio.Task`, which ends then, or with the exception if that is impossible.
        """


class IReadableWatcher(Interface):
    """A reactor that watches a descriptor at a lower price than a reader's."""

    def watchReadable(descriptor, ready):  # type: ignore[no-untyped-def]
        """Call *ready* while *descriptor* is readable, until `ignoreReadable`.

        It is for descriptors that never have an error, such as epoll objects, or never one that
        they survive, such as listening sockets: after an error, *ready* is called only once more.
        """

    def ignoreReadable(descriptor):  # type: ignore[no-untyped-def]
        """Watch *descriptor* no longer."""
