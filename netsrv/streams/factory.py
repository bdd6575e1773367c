"""The factory of one admitted connection."""

from typing import Any

from twisted.internet.interfaces import IProtocolFactory

from netsrv.gate import Permit
from netsrv.streams.connection import Connection


class GatedFactory:
    """Builds one connection, for which *permit* was given, to a protocol of *service*.

    A reactor asks a factory for `buildProtocol` and nothing else, once it has a connection.
    """

    __slots__ = ("_permit", "_service")

    connection_type: type[Connection] = Connection

    def __init__(self, permit: Permit, service: IProtocolFactory) -> None:
        self._permit = permit
        self._service = service

    def buildProtocol(self, addr: Any) -> Connection | None:
        permit = self._permit
        try:
            protocol = self._service.buildProtocol(addr)
        except BaseException:  # as Twisted: not even SystemExit ends the server
            permit.gate.report_failure("buildProtocol")
            protocol = None
        if protocol is None:
            permit.cancel()
            return None
        return self.connection_type(permit, protocol)
