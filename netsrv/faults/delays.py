"""Faults that delay: latency, bandwidth, slicer, slow_close."""

from collections import deque
from enum import StrEnum
from functools import partial
from random import Random
from typing import Any

from attrs import field, frozen
from attrs.validators import ge

from netsrv.faults.stages import Stage

MILLISECOND = 0.001
MICROSECOND = 0.000_001

SLICE_SECONDS = 0.1
"""Seconds of bandwidth that pass in one piece."""

KILOBYTE = 1000
"""Bytes: the unit of a rate, as toxiproxy has it."""

END = None
"""Stands in a queue for the end of the direction."""


class Distribution(StrEnum):
    """How latencies vary around their mean."""

    UNIFORM = "uniform"
    """By at most the jitter, in either direction."""
    NORMAL = "normal"
    """With the jitter as standard deviation."""
    PARETO = "pareto"
    """Beyond the latency only, mostly little, at times much: by the jitter on average."""


PARETO_SHAPE = 3.0
"""The mean of such a variate, less 1, is 1 / (shape - 1)."""


def jittered(latency: float, jitter: float, distribution: Distribution, random: Random) -> float:
    """Draw a latency; one below 0 is 0.  The unit is that of *latency* and *jitter*."""
    if not jitter:
        return max(latency, 0.0)
    if distribution is Distribution.NORMAL:
        latency = random.gauss(latency, jitter)
    elif distribution is Distribution.PARETO:
        latency += jitter * (PARETO_SHAPE - 1) * (random.paretovariate(PARETO_SHAPE) - 1)
    else:
        latency += jitter * (2 * random.random() - 1)
    return max(latency, 0.0)


@frozen
class LatencyAttributes:
    """The attributes of latency."""

    latency: int = 0
    """Milliseconds."""
    jitter: int = 0
    """Milliseconds by which a latency may be smaller or larger; none is below 0."""
    distribution: Distribution = field(default=Distribution.UNIFORM, converter=Distribution)
    """How latencies vary."""


class Latency(Stage):
    """Delays each chunk from its arrival; the order is kept.

    A chunk with a long delay holds back those behind it.  The end of the direction waits for the
    data before it, and is not delayed itself.  A change of the fault passes the next chunk on at
    once.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waiting: deque[tuple[float, bytes | None]] = deque()
        """The time of arrival and the data of each chunk."""

    def data(self, data: bytes) -> None:
        self.hold(len(data))
        self._wait(data)

    def end(self) -> None:
        if self._waiting:
            self._wait(END)
        else:
            self.pass_end()

    def update(self) -> None:
        """Pass on the chunk that is next; those behind it get the new latency."""
        if self._waiting:
            self.cancel()
            self._pass_first()

    def release(self) -> None:
        self.cancel()
        while self._waiting:
            self._pop()

    def drop(self) -> None:
        super().drop()
        self._waiting.clear()

    def _wait(self, data: bytes | None) -> None:
        self._waiting.append((self.now(), data))
        if not self.waits:
            self._wait_for_first()

    def _wait_for_first(self) -> None:
        """Pass on what is due, and wait for the chunk after it."""
        while self._waiting:
            arrival, data = self._waiting[0]
            wait = 0.0
            if data is not END:
                values = self.attributes
                latency = jittered(values.latency, values.jitter, values.distribution, self.random)
                wait = arrival + latency * MILLISECOND - self.now()
            if wait > 0:
                self.call_later(wait, self._pass_first)
                return
            self._pop()

    def _pass_first(self) -> None:
        if self._waiting:
            self._pop()
        self._wait_for_first()

    def _pop(self) -> None:
        data = self._waiting.popleft()[1]
        if data is END:
            self.pass_end()
        else:
            self.hold(-len(data))
            self.pass_on(data)


@frozen
class BandwidthAttributes:
    """The attributes of bandwidth."""

    rate: int = 0
    """Units of 1,000 bytes a second; 0 or less for no limit."""
    shared: bool = False
    """True if all connections of the listener share the rate."""


class _Queue(Stage):
    """A stage that holds data in a queue, and passes on pieces of it at times of its own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._queue: deque[bytes | None] = deque()

    def data(self, data: bytes) -> None:
        self.hold(len(data))
        self._enter(data)

    def end(self) -> None:
        if self._queue or self.waits:
            self._enter(END)
        else:
            self.pass_end()

    def release(self) -> None:
        self.cancel()
        while self._queue:
            self._pass(self._queue.popleft())

    def drop(self) -> None:
        super().drop()
        self._queue.clear()

    def _enter(self, data: bytes | None) -> None:
        self._queue.append(data)
        if not self.waits:
            self._go_on()

    def _go_on(self) -> None:
        raise NotImplementedError

    def _pass(self, data: bytes | None) -> None:
        if data is END:
            self.pass_end()
        else:
            self.hold(-len(data))
            self.pass_on(data)


class Bandwidth(_Queue):
    """Limits the rate: data waits as long as it takes at the rate, and then passes.

    It passes in pieces of a tenth of a second; time without data is not saved up.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._free_at = 0.0

    def update(self) -> None:
        """Pass on the chunk that is next; those behind it get the new rate."""
        if self._queue:
            self._pass(self._queue.popleft())
            self.call_later(0, self._go_on)

    def _go_on(self) -> None:
        """Wait until the next piece may pass, up to a tenth of a second of the rate."""
        while self._queue:
            data, rate = self._queue[0], self.attributes.rate * KILOBYTE
            if data is not END and rate > 0:
                size = min(len(data), max(int(rate * SLICE_SECONDS), 1))
                self.call_later(self._reserve(size / rate), partial(self._pass_piece, size))
                return
            self._pass(self._queue.popleft())

    def _reserve(self, seconds: float) -> float:
        """Take the next *seconds* of the line, and return the wait until they are over."""
        owner: Any = self.fault if self.attributes.shared else None
        now = self.now()
        end = max(now, self._free_at if owner is None else owner.free_at) + seconds
        if owner is None:
            self._free_at = end
        else:
            owner.free_at = end
        return end - now

    def _pass_piece(self, size: int) -> None:
        data = self._queue.popleft() if self._queue else b""
        if data is not END and len(data) > size:
            self._queue.appendleft(data[size:])
            data = data[:size]
        self._pass(data)
        if not self.waits:
            self._go_on()


@frozen
class SlicerAttributes:
    """The attributes of slicer."""

    average_size: int = 0
    """Bytes of a piece on average; 0 or less leaves the data whole."""
    size_variation: int = 0
    """Bytes by which a piece may be smaller or larger."""
    delay: int = 0
    """Microseconds after each piece."""


class Slicer(_Queue):
    """Slices data into small pieces, with a delay after each.

    A chunk is halved, more or less in the middle, until its pieces are small enough.  Without a
    delay TCP may join the pieces again.
    """

    def _go_on(self) -> None:
        while self._queue:
            data = self._queue.popleft()
            if data is END:
                self._pass(END)
                continue
            first, *others = self._slice(data)
            self._queue.extendleft(reversed(others))
            self._pass(first)
            if self.attributes.delay > 0:
                self.call_later(self.attributes.delay * MICROSECOND, self._go_on)
                return

    def _slice(self, data: bytes) -> list[bytes]:
        """Halve data, more or less in the middle, until the pieces are small enough."""
        values = self.attributes
        average, variation = values.average_size, max(values.size_variation, 0)
        if average <= 0:
            return [data]
        pieces, rest = [], [data]
        while rest:
            piece = rest.pop()
            size = len(piece)
            if size <= max(average + variation, 1):
                pieces.append(piece)
                continue
            middle = size // 2
            if variation:
                middle += self.random.randrange(2 * variation) - variation
            middle = min(max(middle, 1), size - 1)
            rest += piece[middle:], piece[:middle]
        return pieces


@frozen
class SlowCloseAttributes:
    """The attributes of slow_close."""

    delay: int = field(default=0, validator=ge(0))
    """Milliseconds."""


class SlowClose(Stage):
    """Delays the end of the direction, once all data has passed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ending = False

    def end(self) -> None:
        self._ending = True
        self.call_later(self.attributes.delay * MILLISECOND, self.pass_end)

    def update(self) -> None:
        """Begin to wait again."""
        if self.waits:
            self.end()

    def release(self) -> None:
        if self.waits:
            self.cancel()
            self.pass_end()
