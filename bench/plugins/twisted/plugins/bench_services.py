"""Services for the measurements, found like any third-party plugin."""

import time
from typing import Any

from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramService, IStreamService

PROBE_INTERVAL = 0.002
"""Seconds between two ticks of the probe."""


class Plain(DatagramProtocol):
    """Sends each datagram back, without batches."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


@implementer(IDatagramService)
class PlainEcho:
    """An ordinary ``DatagramProtocol`` behind the gate."""

    name = "bench-plain"
    description = "send datagrams back through an ordinary DatagramProtocol (a measurement)"
    settings = None

    def datagram(self, settings: Any) -> DatagramProtocol:
        return Plain()


plain = PlainEcho()


class Echo(Protocol):
    """Sends everything back, and does not say that this is all it does."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@implementer(IStreamService)
class EchoService:
    """An ordinary ``Protocol`` behind the gate."""

    name = "bench-echo"
    description = "send everything back through an ordinary Protocol (a measurement)"
    settings = None

    def stream(self, settings: Any) -> Factory:
        return Factory.forProtocol(Echo)


echo = EchoService()


class LoopProbe(Protocol):
    """Measures the longest turn of the reactor's loop in CPU time of its thread.

    For a line with a number of seconds the answer is a line with the most CPU seconds between
    two ticks.  Waiting for a core does not count, so other programs do not disturb the figure.
    """

    def dataReceived(self, data: bytes) -> None:
        self._end = time.monotonic() + float(data)
        self._longest = 0.0
        self._last = time.thread_time()
        self._tick()

    def _tick(self) -> None:
        now = time.thread_time()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        if time.monotonic() < self._end:
            self.transport.reactor.callLater(PROBE_INTERVAL, self._tick)
        else:
            self.transport.write(b"%.6f\n" % self._longest)


@implementer(IStreamService)
class LoopProbeService:
    """The probe as a service."""

    name = "bench-probe"
    description = "measure the longest turn of the loop (a measurement)"
    settings = None

    def stream(self, settings: Any) -> Factory:
        return Factory.forProtocol(LoopProbe)


probe = LoopProbeService()
