"""The server, which puts listeners together, drains them and reloads them."""

from netsrv.config import listener
from netsrv.server.drain import Drained
from netsrv.server.server import Server

__all__ = ["Drained", "Server", "listener"]
