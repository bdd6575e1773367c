"""Connections that a program has made itself, on a connected socket."""

import socket
from typing import Any

from netsrv.uvreactor.connection import Connection


class ConnectedSocket:
    """Stands in the place of an acceptor for the connection on one socket."""

    no_delay = True
    port = None

    def __init__(self, reactor: Any, protocol: Any) -> None:
        self.reactor = reactor
        self._protocol = protocol

    def arrived(self, connection: Connection) -> None:
        """Serve the connection."""
        connection.serve(self._protocol)

    def left(self, connection: Connection) -> None:
        """The connection was lost before it was served."""

    def connect(self, sock: socket.socket) -> Any:
        """Let uvloop have the socket; return the task, which ends when it is served."""
        loop = self.reactor.loop
        return loop.create_task(loop.connect_accepted_socket(lambda: Connection(self), sock))
