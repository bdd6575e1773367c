"""A connection with faults: it stands between the transport and the gate's connection.

To the transport it is the protocol, to the gate's connection the transport, and each direction
is a chain of stages, one for each fault that hits the connection::

    transport -> upstream stages   -> gate's connection -> service
    transport <- downstream stages <- gate's connection <- service

What the stages hold is bounded: above `MAX_HELD_BYTES` the sender is paused.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from netsrv.faults.delays import MILLISECOND
from netsrv.faults.fault import Direction, Fault, Level
from netsrv.faults.links import DownstreamSink, Link, UpstreamSink
from netsrv.faults.producers import Puller, TransportSide
from netsrv.faults.stages import Stage, Unit
from netsrv.forwarding import forward, unsent_of
from netsrv.guards.sources import Source
from netsrv.interfaces import CloseReason

MAX_HELD_BYTES = 2**20
"""Bytes that are held for a direction before its sender is paused."""

MAX_DROPPED_BYTES = 2**16
DROP_PAUSE = 0.01
"""Bytes that stages drop before the sender is paused for so many seconds.

A producer that is never paused would never stop.
"""

UPSTREAM, DOWNSTREAM = Direction


@forward(
    "transport",
    ITCPTransport,
    ITLSTransport,
    ISystemHandle,
    *"TLS client disconnected disconnecting fileno getPeerCertificate hostname logPrefix".split(),
    *"half_closes negotiatedProtocol reactor sendFileDescriptor server sessionno socket".split(),
)
@implementer(IConsumer, IPushProducer)
class FaultyConnection:
    """Puts the faults of a listener between `transport` and `protocol`, the gate's connection.

    *source* is the peer's, None for a peer without an address; *number* the connection's among
    those of its listener.
    """

    def __init__(
        self,
        source: Source | None,
        number: int,
        clock: Any,
        now: Callable[[], float],
    ) -> None:
        self.transport: Any = None
        self.protocol: Any = None
        self.source = source
        self.number = number
        self.clock = clock
        self.now = now
        self._upstream_sink = UpstreamSink(self)
        self.links = {
            UPSTREAM: Link(self._upstream_sink),
            DOWNSTREAM: Link(DownstreamSink(self)),
        }
        self._exit: Any = None
        """Where a close begins in the downstream link, once a fault closes the connection."""
        self._half_closing = self._closing = self._lost = False
        self._end_passed = False
        """True if the end of the downstream link has come to the transport."""
        self._producer: Any = None
        self.streamingProducer = False
        self.connect_delay = 0.0
        """Seconds by which the service forward connects later; infinity for not at all."""
        self.on_lost: Callable[[FaultyConnection], None] | None = None
        """Called when the connection is lost."""

    # Faults

    def add(self, fault: Fault, live: bool = False) -> None:
        """Let a fault hit the connection, if it is selected; *live* if it was made before."""
        if not fault.matches(self.source):
            return
        if fault.settings.kind.level is Level.CONNECT and not live and self.number > 0:
            self._add_to_connecting(fault)
        if fault.settings.kind.level is not Level.TRAFFIC:
            return
        for direction in fault.settings.directions:
            generator = fault.generator(direction, self.number)
            stage = fault.settings.kind.stage(self, direction, fault, generator)
            self.links[direction].stages.append(stage)
            self._select(stage)
            self.links[direction].connect()
            if live and stage.active:
                stage.start()

    def _add_to_connecting(self, fault: Fault) -> None:
        """Let a fault hit the connecting of forward to its upstream, if it is selected."""
        if fault.count(UPSTREAM) and fault.draw(fault.generator(UPSTREAM, self.number)):
            fault.hit(UPSTREAM)
            delay = getattr(fault.settings.attributes, "delay", math.inf)
            self.connect_delay += delay * MILLISECOND

    @property
    def hit_by(self) -> list[str]:
        """The names of the faults that hit the connection's data."""
        stages = [stage for link in self.links.values() for stage in link.stages if stage.active]
        return list(dict.fromkeys(stage.fault.settings.name for stage in stages))

    def update(self, fault: Fault, redraw: bool) -> None:
        """Go on with other attributes of a fault; draw again if *redraw*."""
        for stage in self._stages_of(fault):
            if redraw:
                self._select_again(stage)
            elif stage.active:
                stage.update()
        self._connect()

    def remove(self, fault: Fault) -> None:
        """Go on without a fault; what it holds passes at once."""
        for stage in self._stages_of(fault):
            self.links[stage.direction].stages.remove(stage)
            if stage.active:
                stage.release()
                self.resume(stage.direction, stage)
        self._connect()

    def _stages_of(self, fault: Fault) -> list[Stage]:
        return [
            stage for link in self.links.values() for stage in link.stages if stage.fault is fault
        ]

    def _select(self, stage: Stage) -> None:
        """Decide whether the connection is hit."""
        if stage.unit is Unit.CONNECTION:
            fault = stage.fault
            stage.active = fault.count(stage.direction) and fault.draw(stage.random)
            if stage.active:
                fault.hit(stage.direction)
        else:
            stage.active = True

    def _select_again(self, stage: Stage) -> None:
        was_active = stage.active
        stage.active = stage.unit is not Unit.CONNECTION or stage.fault.draw(stage.random)
        if was_active and not stage.active:
            stage.leave()
            self.resume(stage.direction, stage)
        elif stage.active and not was_active:
            stage.start()
        elif stage.active:
            stage.update()

    def _connect(self) -> None:
        for link in self.links.values():
            link.connect()

    def start(self) -> None:
        """Begin with the faults that the connection has from its first moment on."""
        for link in self.links.values():
            for stage in link.stages:
                if stage.active:
                    stage.start()

    def interpose(self, connection: Any) -> None:
        """Stand before the transport of a live connection of the gate, and begin."""
        behind = connection.transport
        self.transport, self.protocol = behind, connection
        self._upstream_sink.paused = connection.paused
        is_full = getattr(behind, "producerPaused", False)
        connection.write_to(self)
        if is_full and self._producer is not None:  # it has paused the service's producer
            behind.producerPaused = True
            self.links[DOWNSTREAM].pausers.add(behind)
        behind.protocol = self
        end_send_back = getattr(behind, "endSendBack", None)
        if end_send_back is not None:
            end_send_back()
        self.start()

    def withdraw(self) -> bool:
        """Leave the place before the transport; return False if that is not possible now."""
        if self._lost or self._closing or self._half_closing or self._exit is not None:
            return False
        for link in self.links.values():
            if link.stages or link.pausers:
                return False
        if self._upstream_sink.paused or isinstance(self._producer, Puller):
            return False
        self.protocol.write_to(self.transport)
        self.transport.protocol = self.protocol
        return True

    # What stages call

    def hold(self, direction: Direction, size: int) -> None:
        """Count *size* more bytes that are held, and pause or resume the sender."""
        link = self.links[direction]
        link.held += size
        if link.held > MAX_HELD_BYTES:
            self.pause(direction, None)
        elif link.held <= MAX_HELD_BYTES // 2 and None in link.pausers:
            self.resume(direction, None)

    def count_dropped(self, direction: Direction, size: int) -> None:
        """Count bytes that a stage drops, and pause the sender for a moment if they are many."""
        link = self.links[direction]
        link.dropped += size
        if link.dropped > MAX_DROPPED_BYTES and link.pause_timer is None:
            link.dropped = 0
            self.pause(direction, link)
            link.pause_timer = self.clock.callLater(DROP_PAUSE, self._drop_more, direction)

    def _drop_more(self, direction: Direction) -> None:
        link = self.links[direction]
        link.pause_timer = None
        self.resume(direction, link)

    def pause(self, direction: Direction, pauser: Any) -> None:
        """Pause the sender of a direction, until all that have paused it resume it."""
        link = self.links[direction]
        was_running = not link.pausers
        link.pausers.add(pauser)
        if not was_running:
            return
        if direction is UPSTREAM:
            self.transport.pauseProducing()
        elif self._producer is not None:
            self._producer.pauseProducing()

    def resume(self, direction: Direction, pauser: Any) -> None:
        """Take back a `pause`."""
        link = self.links[direction]
        if pauser not in link.pausers:
            return
        link.pausers.discard(pauser)
        if link.pausers or self._lost:
            return
        if direction is DOWNSTREAM:
            if self._producer is not None:
                self._producer.resumeProducing()
        elif not self._upstream_sink.paused:
            self.transport.resumeProducing()

    def close_by_fault(self, stage: Stage) -> None:
        """Close both directions; what has passed *stage*, or is held behind it, is still sent."""
        if self._exit is None and not self._lost:
            downstream = stage.direction is DOWNSTREAM
            self._exit = stage.next if downstream else self.links[DOWNSTREAM].first
            ending = self._half_closing or self._closing
            self.protocol.end(CloseReason.FAULT)
            if ending:  # the service has closed before, and a stage has held that
                self._exit.end()

    def reset_by_fault(self) -> None:
        """Reset the connection."""
        if not self._lost:
            self.protocol.abort(CloseReason.FAULT)

    # The transport calls

    def dataReceived(self, data: bytes) -> None:
        if self._exit is None:
            self.links[UPSTREAM].first.data(data)

    def readConnectionLost(self) -> None:
        self.links[UPSTREAM].first.end()

    def readConnectionTruncated(self) -> None:
        self.protocol.readConnectionTruncated()

    def writeConnectionLost(self) -> None:
        self.protocol.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        self._lost = True
        for link in self.links.values():
            link.held = 0
            if link.pause_timer is not None:
                link.pause_timer.cancel()
            for stage in link.stages:
                stage.drop()
        self._upstream_sink.drop()
        self._stop_pulling()
        if self.on_lost is not None:
            self.on_lost(self)
        self.protocol.connectionLost(reason)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self.protocol.fileDescriptorReceived(descriptor)

    def __conform__(self, interface: Any) -> Any:
        return self if interface is IHalfCloseableProtocol else None

    # The gate's connection calls

    def write(self, data: bytes) -> None:
        ended = self._half_closing or self._closing or self._lost
        if data and not ended and self._exit is None:
            self.links[DOWNSTREAM].first.data(bytes(data))

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    @property
    def unsent(self) -> int:
        """Bytes that were written and are not sent."""
        held: int = self.links[DOWNSTREAM].held
        return held + unsent_of(self.transport)

    def loseWriteConnection(self) -> None:
        if not self._half_closing:
            self._half_closing = True
            self._end_downstream()

    def loseConnection(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._end_passed or self._lost:
            self.end_writing()
        elif not self._half_closing:  # otherwise the end is on its way, behind data that is held
            self._end_downstream()

    def abortConnection(self) -> None:
        self.transport.abortConnection()

    def end_writing(self) -> None:
        """End the transport as the gate's connection has asked for."""
        self._end_passed = True
        if self._closing:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def _end_downstream(self) -> None:
        (self._exit or self.links[DOWNSTREAM].first).end()

    def pauseProducing(self) -> None:
        self._upstream_sink.paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._upstream_sink.resume()
        if not (self._upstream_sink.paused or self.links[UPSTREAM].pausers or self._lost):
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._lost:
            producer.stopProducing()
            return
        self.streamingProducer = streaming
        self._producer = producer if streaming else Puller(producer, self.clock)
        self.transport.registerProducer(TransportSide(self, producer), True)
        if self.links[DOWNSTREAM].pausers:
            self._producer.pauseProducing()
        elif not streaming:
            self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._stop_pulling()
        self.links[DOWNSTREAM].pausers.discard(self.transport)
        self.transport.unregisterProducer()

    def _stop_pulling(self) -> None:
        producer, self._producer = self._producer, None
        if isinstance(producer, Puller):
            producer.pauseProducing()
