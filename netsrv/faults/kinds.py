"""The built-in kinds of faults, by the names that users write."""

from typing import Any

from attrs import field, frozen
from attrs.validators import ge

from netsrv.faults import damage, datagram_stages, delays, endings
from netsrv.faults.fault import Level
from netsrv.faults.stages import Stage


@frozen
class NoAttributes:
    """The attributes of a kind that has none."""


@frozen
class ConnectDelayAttributes:
    """The attributes of connect_delay."""

    delay: int = field(default=0, validator=ge(0))
    """Milliseconds."""


@frozen
class FaultKind:
    """A kind of faults, of streams or of datagrams."""

    name: str
    description: str
    """What it does: a verb in the third person first, no full stop."""
    attributes: type
    """The frozen attrs class of its attributes."""
    stage: Any
    """The class of its stages; None for a kind that stands on the way of new connections."""
    level: Level = Level.TRAFFIC
    details: str = ""
    """How a kind without stages behaves, for the reference."""


STREAM_KINDS = {
    kind.name: kind
    for kind in (
        FaultKind(
            "latency",
            "delays data by a latency, more or less a jitter",
            delays.LatencyAttributes,
            delays.Latency,
        ),
        FaultKind(
            "bandwidth",
            "limits the rate",
            delays.BandwidthAttributes,
            delays.Bandwidth,
        ),
        FaultKind(
            "slow_close",
            "delays the end of a direction",
            delays.SlowCloseAttributes,
            delays.SlowClose,
        ),
        FaultKind(
            "timeout",
            "drops all data, and closes the connection after a time",
            endings.TimeoutAttributes,
            endings.Timeout,
        ),
        FaultKind(
            "reset_peer",
            "resets the connection, a time after the first data",
            endings.TimeoutAttributes,
            endings.ResetPeer,
        ),
        FaultKind(
            "slicer",
            "slices data into small pieces, with a delay after each",
            delays.SlicerAttributes,
            delays.Slicer,
        ),
        FaultKind(
            "limit_data",
            "closes the connection after a number of bytes",
            endings.LimitDataAttributes,
            endings.LimitData,
        ),
        FaultKind(
            "packet_loss",
            "drops pieces of the stream, which nothing sends again",
            damage.PacketLossAttributes,
            damage.PacketLoss,
        ),
        FaultKind(
            "limit_time",
            "closes or resets the connection after a time",
            endings.LimitTimeAttributes,
            endings.LimitTime,
        ),
        FaultKind(
            "corrupt",
            "flips bits of the data, or replaces bytes",
            damage.CorruptAttributes,
            damage.Corrupt,
        ),
        FaultKind(
            "stall",
            "stops reading after a number of bytes",
            endings.StallAttributes,
            endings.Stall,
        ),
        FaultKind(
            "half_close",
            "ends one direction after a number of bytes",
            endings.HalfCloseAttributes,
            endings.HalfClose,
        ),
        FaultKind(
            "refuse",
            "closes or resets new connections, or leaves them in the backlog",
            endings.RefuseAttributes,
            None,
            Level.ACCEPT,
            "A connection that is refused is counted, and takes no slot; a peer that has sent data "
            "may see a reset instead of the close. ``stall`` keeps out all peers: of the selectors "
            "only ``ttl`` holds for it.",
        ),
        FaultKind(
            "down",
            "refuses connections as if there were no server, and ends those that are live",
            NoAttributes,
            None,
            Level.DOWN,
            "The socket keeps its port, and peers that connect get a reset (ECONNREFUSED). Of the "
            "selectors only ``ttl`` holds.",
        ),
        FaultKind(
            "connect_fail",
            "lets forward fail to connect to its upstream",
            NoAttributes,
            None,
            Level.CONNECT,
            "No connection to the upstream is tried; the client's connection ends as it does if "
            "the upstream refuses.",
        ),
        FaultKind(
            "connect_delay",
            "lets forward take longer to connect to its upstream",
            ConnectDelayAttributes,
            None,
            Level.CONNECT,
            "What the client sends meanwhile waits. A delay beyond ``connect_timeout`` ends the "
            "connection then.",
        ),
        FaultKind("noop", "does nothing", NoAttributes, Stage),
    )
}

DATAGRAM_KINDS = {
    kind.name: kind
    for kind in (
        FaultKind(
            "loss",
            "drops datagrams, one by one or in bursts",
            datagram_stages.LossAttributes,
            datagram_stages.Loss,
        ),
        FaultKind(
            "latency",
            "delays datagrams by a latency, more or less a jitter",
            datagram_stages.DatagramLatencyAttributes,
            datagram_stages.DatagramLatency,
        ),
        FaultKind(
            "reorder",
            "lets datagrams overtake one that is held back",
            datagram_stages.ReorderAttributes,
            datagram_stages.Reorder,
        ),
        FaultKind(
            "duplicate",
            "sends copies of a datagram",
            datagram_stages.DuplicateAttributes,
            datagram_stages.Duplicate,
        ),
        FaultKind(
            "corrupt",
            "flips bits of a datagram",
            datagram_stages.DatagramCorruptAttributes,
            datagram_stages.DatagramCorrupt,
        ),
        FaultKind(
            "truncate",
            "cuts datagrams that are longer than a size",
            datagram_stages.TruncateAttributes,
            datagram_stages.Truncate,
        ),
        FaultKind(
            "limit_size",
            "drops datagrams that are longer than a size",
            datagram_stages.LimitSizeAttributes,
            datagram_stages.LimitSize,
        ),
        FaultKind(
            "bandwidth",
            "limits the rate, with a queue of datagrams",
            datagram_stages.DatagramBandwidthAttributes,
            datagram_stages.DatagramBandwidth,
        ),
        FaultKind(
            "blackhole",
            "drops all datagrams",
            NoAttributes,
            datagram_stages.Blackhole,
        ),
        FaultKind(
            "unreachable",
            "refuses datagrams, so that the network answers that the port is unreachable",
            NoAttributes,
            None,
            Level.DOWN,
            "The socket keeps its port, and the kernel answers with ICMP (ECONNREFUSED). Of the "
            "selectors only ``ttl`` holds.",
        ),
        FaultKind(
            "down",
            "refuses datagrams as if there were no server",
            NoAttributes,
            None,
            Level.DOWN,
            "The same as ``unreachable``.",
        ),
    )
}
