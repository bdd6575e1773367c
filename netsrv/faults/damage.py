"""Faults that change what is sent: corrupt, packet_loss."""

from random import Random
from typing import Any

from attrs import field, frozen
from attrs.validators import ge, optional

from netsrv.faults.stages import Stage, Unit


@frozen
class CorruptAttributes:
    """The attributes of corrupt."""

    bits: int = field(default=1, validator=ge(0))
    """Bits that are flipped, at random places."""
    bytes: int = field(default=0, validator=ge(0))
    """Bytes that are replaced by other ones, instead of bits."""
    offset: int | None = field(default=None, validator=optional(ge(0)))
    """The place in the stream, in bytes, that is corrupted once; without it, each chunk that
    is hit."""


class Corrupt(Stage):
    """Flips bits of a chunk, or replaces bytes that are next to each other."""

    unit = Unit.CHUNK

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._passed = 0

    def data(self, data: bytes) -> None:
        offset = self.attributes.offset
        start, self._passed = self._passed, self._passed + len(data)
        if offset is None:
            if data and self.hits_chunk():
                data = self._corrupt(data, None)
        elif start <= offset < self._passed and self.hits_chunk():
            data = self._corrupt(data, offset - start)
        self.pass_on(data)

    def _corrupt(self, data: bytes, place: int | None) -> bytes:
        """Return data with other bytes in it: from *place* on, or at random places."""
        values, random = self.attributes, self.random
        if values.bytes:
            changed = bytearray(data)
            count = min(values.bytes, len(data))
            first = random.randrange(len(data) - count + 1) if place is None else place
            for index in range(first, min(first + count, len(data))):
                changed[index] ^= random.randrange(1, 256)
            return bytes(changed)
        if place is None:
            return flip_bits(data, values.bits, random)
        end = place + 1
        return data[:place] + flip_bits(data[place:end], values.bits, random) + data[end:]


def flip_bits(data: bytes, count: int, random: Random) -> bytes:
    """Return data with *count* bits flipped, at random places, or all if it has fewer."""
    changed, width = bytearray(data), 8 * len(data)
    for bit in random.sample(range(width), min(count, width)):
        changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


@frozen
class PacketLossAttributes:
    """The attributes of packet_loss."""

    loss_rate: float = 0.0
    """The share of the chunks that are dropped, from 0 to 1."""
    correlation: float = 0.0
    """How far each draw depends on the one before, from 0 to 1."""


class PacketLoss(Stage):
    """Drops chunks of the stream, as toxiproxy does: it models no network, which would resend."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last = self.random.random()

    def data(self, data: bytes) -> None:
        correlation = min(max(self.attributes.correlation, 0.0), 1.0)
        self._last = correlation * self._last + (1 - correlation) * self.random.random()
        if self._last >= self.attributes.loss_rate:
            self.pass_on(data)
        else:
            self.drop_data(data)
