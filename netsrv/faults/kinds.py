"""The built-in kinds of faults of streams, by the names that users write."""

from typing import Any

from attrs import frozen

from netsrv.faults import damage, delays, endings
from netsrv.faults.stages import Stage


@frozen
class NoAttributes:
    """The attributes of a kind that has none."""


@frozen
class StreamFaultKind:
    """A kind of faults of streams."""

    name: str
    description: str
    attributes: type
    """The frozen attrs class of its attributes."""
    stage: Any
    """The class of its stages."""


STREAM_KINDS = {
    kind.name: kind
    for kind in (
        StreamFaultKind(
            "latency",
            "delay data by a latency, more or less a jitter",
            delays.LatencyAttributes,
            delays.Latency,
        ),
        StreamFaultKind(
            "bandwidth",
            "limit the rate",
            delays.BandwidthAttributes,
            delays.Bandwidth,
        ),
        StreamFaultKind(
            "slow_close",
            "delay the end of a direction",
            delays.SlowCloseAttributes,
            delays.SlowClose,
        ),
        StreamFaultKind(
            "timeout",
            "drop all data, and close the connection after a time",
            endings.TimeoutAttributes,
            endings.Timeout,
        ),
        StreamFaultKind(
            "reset_peer",
            "reset the connection, a time after the first data",
            endings.TimeoutAttributes,
            endings.ResetPeer,
        ),
        StreamFaultKind(
            "slicer",
            "slice data into small pieces, with a delay after each",
            delays.SlicerAttributes,
            delays.Slicer,
        ),
        StreamFaultKind(
            "limit_data",
            "close the connection after a number of bytes",
            endings.LimitDataAttributes,
            endings.LimitData,
        ),
        StreamFaultKind(
            "packet_loss",
            "drop pieces of the stream, which nothing sends again",
            damage.PacketLossAttributes,
            damage.PacketLoss,
        ),
        StreamFaultKind(
            "limit_time",
            "close or reset the connection after a time",
            endings.LimitTimeAttributes,
            endings.LimitTime,
        ),
        StreamFaultKind(
            "corrupt",
            "flip bits of the data, or replace bytes",
            damage.CorruptAttributes,
            damage.Corrupt,
        ),
        StreamFaultKind(
            "stall",
            "stop reading after a number of bytes",
            endings.StallAttributes,
            endings.Stall,
        ),
        StreamFaultKind(
            "half_close",
            "end one direction after a number of bytes",
            endings.HalfCloseAttributes,
            endings.HalfClose,
        ),
        StreamFaultKind("noop", "do nothing", NoAttributes, Stage),
    )
}
