"""Connections whose service has not begun: a PROXY header, or a TLS handshake, is awaited.

A listener may have stages, which every connection goes through before its service::

    acceptor -> Stage.admit -> PendingConnection: stage after stage -> service factory

A pending connection is the reactor's protocol until its last stage is complete.  It holds its
slot and is known to the gate, but the service knows nothing of it yet.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IProtocolFactory,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.gate import Gate, Permit
from netsrv.interfaces import RejectReason
from netsrv.sockets.addresses import show_sockaddr
from netsrv.streams.factory import GatedFactory
from netsrv.streams.staged import StagedConnection


class Stage:
    """One stage of the connections of a listener, and its settings: a base class.

    A listener that gets other settings gets other stages; connections that are pending then keep
    those of before.
    """

    name: str
    """The stage in `Gate.pending`, and so in metrics."""
    timeout: float
    """Seconds that a connection may stay in the stage."""
    timeout_reason: RejectReason
    """The reason to reject a connection that stays longer."""
    lost_reason: RejectReason
    """The reason to report if the peer leaves, or half-closes, before the stage is complete."""

    def admit(self, gate: Gate, sockaddr: Any) -> Permit | RejectReason:
        """Admit a connection, or return the reason against it, and report it.

        The first stage of a listener is asked.  One that learns the source of a connection later
        calls `Gate.reserve` here, and `Permit.identify` then.
        """
        return gate.admit(sockaddr)

    def factory(
        self, permit: Permit, stages: "Sequence[Stage]", service: IProtocolFactory, accepted: Any
    ) -> Any:
        """Return the factory of an *accepted* connection, whose first stage this is."""
        return PendingFactory(permit, stages, service)

    def start(self, connection: "PendingConnection") -> Callable[[bytes], None]:
        """Begin with a connection, and return the function that gets its bytes.

        The connection has its transport, to which the stage may write.  The stage ends by
        `PendingConnection.complete` or `PendingConnection.fail`, now or later.
        """
        raise NotImplementedError


@implementer(IFileDescriptorReceiver)
class PendingConnection:
    """A connection on its way through *stages* to *service*: the reactor's protocol until then.

    A stage may change `address` and `connection_type`, and set `proxy` and `tls`.
    """

    connection_type = StagedConnection
    """The class of the connection to the service."""
    proxy: Any = None
    """The header of the PROXY protocol, once it is known."""
    tls: Any = None
    """The TLS session, once the handshake is complete."""
    transport: Any = None
    """The transport as the present stage sees it."""
    early = b""
    """What the peer has sent, and the present stage has not taken yet."""
    aborted = False
    _failed = False
    _at_end: Sequence[Callable[[], None]] = ()
    _receive: Callable[[bytes], None]

    def __init__(
        self, permit: Permit, stages: Sequence[Stage], service: IProtocolFactory, address: Any
    ) -> None:
        self.permit = permit
        self.address = address
        """The peer's address, with which the service's ``buildProtocol`` is called."""
        self._gate = permit.gate
        self._stages: Iterator[Stage] = iter(stages)
        self._stage: Stage = stages[0]
        self._service = service

    # What a stage calls

    def complete(self, data: bytes = b"", transport: Any = None) -> None:
        """Go on with the next stage, or with the service, which first gets *data*.

        That is what the peer has sent after this stage.  With another *transport*, all that
        follows is above it; the protocol of the transport below is then the stage's matter.
        """
        if self._failed or self.aborted:
            return
        if transport is not None:
            self.transport = transport
        stage = next(self._stages, None)
        if stage is None:
            self._receive = _ignore
            self._serve(data)
        else:
            self._start(stage)
            if data:
                self._receive(data)

    def fail(self, reason: RejectReason) -> None:
        """Reject the connection: report *reason*, send what the stage has written, and close."""
        if not self._failed:
            self._gate.report_rejection(self.permit.sockaddr, reason)
            self.close()

    def close(self) -> None:
        """Close the connection, which was rejected and reported already."""
        if not self._failed:
            self._failed, self._receive = True, _ignore
            self._gate.wait_for(self, self.permit.limits.close_grace)
            self.transport.loseConnection()

    def at_end(self, call: Callable[[], None]) -> None:
        """Call *call* when the connection has ended, whether it was served or not."""
        self._at_end = (*self._at_end, call)

    # What the gate calls

    @property
    def stage(self) -> str:
        """The name of the present stage."""
        return self._stage.name

    @property
    def peer(self) -> str:
        """The peer's address, as far as it is known."""
        return show_sockaddr(self.permit.sockaddr)

    def time_out(self) -> None:
        """Reject a connection that is too long in its stage; abort one that does not close."""
        if self._failed:
            self.abort()
        else:
            self.fail(self._stage.timeout_reason)

    def abort(self, *_reason: Any) -> None:
        """Reset the connection."""
        if not self.aborted:
            self.aborted, self._receive = True, _ignore
            self.transport.abortConnection()

    def give_up(self) -> None:
        """End the connection although its transport does not: free the slot and the socket."""
        self.aborted, self._failed, self._receive = True, True, _ignore
        with suppress(BaseException):  # the transport has failed before
            self.transport.connectionLost(Failure(ConnectionAborted()))
        self._end()

    # What the reactor calls

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._start(next(self._stages))
        if self.early:
            early, self.early = self.early, b""
            self._receive(early)

    def dataReceived(self, data: bytes) -> None:
        self._receive(data)

    def readConnectionLost(self) -> None:
        """The peer has half-closed: no stage can be completed any more."""
        self.fail(self._stage.lost_reason)

    def writeConnectionLost(self) -> None:
        """Do nothing: a stage does not half-close."""

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Close a descriptor that a peer on a unix socket has sent too early."""
        os.close(descriptor)

    def connectionLost(self, reason: Failure) -> None:
        if not (self._failed or self.aborted):
            self._gate.report_rejection(self.permit.sockaddr, self._stage.lost_reason)
        self._failed, self._receive = True, _ignore
        self._end()

    def __conform__(self, interface: Any) -> Any:
        """Be half-closeable for the reactor, which would drop an alert that waits otherwise."""
        return self if interface is IHalfCloseableProtocol else None

    # How it is done

    def _start(self, stage: Stage) -> None:
        self._stage = stage
        self._gate.wait_for(self, stage.timeout)
        self._receive = stage.start(self)

    def _serve(self, data: bytes) -> None:
        """Let the service have the connection, and *data*."""
        factory = _StagedFactory(self.permit, self._service)
        factory.connection_type = self.connection_type
        connection: Any = factory.buildProtocol(self.address)
        if connection is None:
            self.close()
            return
        connection.proxy, connection.tls = self.proxy, self.tls
        connection.at_end, connection.early = self._at_end, data
        self._gate.stop_waiting(self)
        self.transport.protocol = connection
        connection.makeConnection(self.transport)

    def _end(self) -> None:
        self.permit.cancel()
        calls, self._at_end = self._at_end, ()
        for call in calls:
            call()
        self._gate.pending_lost(self)


class _StagedFactory(GatedFactory):
    """Builds a connection of the type that the stages have chosen."""

    __slots__ = ("connection_type",)


class PendingFactory:
    """Builds the pending connection of one admitted peer; the reactor asks for nothing else."""

    __slots__ = ("_permit", "_service", "_stages")

    def __init__(self, permit: Permit, stages: Sequence[Stage], service: IProtocolFactory) -> None:
        self._permit = permit
        self._stages = stages
        self._service = service

    def buildProtocol(self, addr: Any) -> PendingConnection:
        return PendingConnection(self._permit, self._stages, self._service, addr)


def _ignore(_data: bytes) -> None:
    """Drop what a peer sends that is rejected."""
