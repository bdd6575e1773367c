"""The test kit: the whole server in memory, or on loopback in the running reactor."""

from netsrv.faults.methods import ActiveFault
from netsrv.testing.servers import Client, LoopbackServer, MemoryServer

__all__ = ["ActiveFault", "Client", "LoopbackServer", "MemoryServer"]
