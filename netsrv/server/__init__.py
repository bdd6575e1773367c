"""The server, which puts listeners together, drains them and reloads them."""

from netsrv.config import listener
from netsrv.server.server import Drained, Server

__all__ = ["Drained", "Server", "listener"]
