"""The types of faults as methods, for the servers of tests.  It imports no Twisted."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, TypedDict, Unpack

Distribution = Literal["uniform", "normal", "pareto"]

FaultCount = tuple[str, str, int]
"""The name of a fault, its type, and how many units it has hit."""


def hits_of(name: str, counts: Iterable[FaultCount]) -> int:
    """Return the hits of the fault of a name, or of all of a type.  Raises LookupError."""
    counts = list(counts)
    hits = [hits for fault, _, hits in counts if fault == name]
    hits = hits or [hits for _, kind, hits in counts if kind == name]
    if not hits:
        names = ", ".join(fault for fault, *_ in counts) or "none"
        raise LookupError(f"there was no fault {name!r}; there were {names}")
    return sum(hits)


class OtherSelectors(TypedDict, total=False):
    """The keys that every fault has, without the probability."""

    name: str
    """By default ``TYPE_STREAM``, as in ``latency_downstream``."""
    stream: Literal["downstream", "upstream", "both"]
    """``downstream``, to the client, by default."""
    skip: int
    first: int
    every: int
    only_from: Sequence[str]
    ttl: float
    """Seconds."""
    seed: int


class Selectors(OtherSelectors, total=False):
    """The keys that every fault has: its name, and what it hits."""

    probability: float


class ActiveFault:
    """A fault in effect: until the end of a ``with`` statement, of the test, or `remove`."""

    def __init__(self, owner: "FaultMethods", name: str) -> None:
        self.name = name
        """The name of the fault, unique at its listener."""
        self._owner = owner

    @property
    def hits(self) -> int:
        """The number of connections, chunks or datagrams that were hit, also after the end."""
        return self._owner.hits(self.name)

    def remove(self) -> None:
        """End the fault: what it holds passes at once.  A fault that has ended stays so."""
        self._owner.remove_fault(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<fault {self.name}>"


class FaultMethods:
    """A method for each type of fault; each returns the fault, which is in effect at once.

    Arguments that are None have the default of the type.  All raise ValueError for a value that
    cannot be, and for a type that the transport does not have.
    """

    def fault(self, kind: str, /, **keys: Any) -> ActiveFault:
        """Add a fault of any type, that of a plugin for example; *keys* are those of a file."""
        raise NotImplementedError

    def remove_fault(self, name: str) -> None:
        """End the fault of this name, if it is in effect."""
        raise NotImplementedError

    def clear_faults(self) -> None:
        """End all faults, those of the listener's configuration too."""
        raise NotImplementedError

    def hits(self, name: str) -> int:
        """Return the number of units that the fault of this name has hit, also after its end.

        *name* may be a type: then the hits of all its faults.  Raises LookupError if there was
        no such fault.
        """
        raise NotImplementedError

    def _add(self, kind: str, selectors: Selectors, **attributes: Any) -> ActiveFault:
        given = {key: value for key, value in attributes.items() if value is not None}
        return self.fault(kind, **given, **selectors)

    # Connections and datagrams

    def latency(
        self,
        latency: int,
        *,
        jitter: int | None = None,
        distribution: Distribution | None = None,
        keep_order: bool | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Delay data by *latency* milliseconds, more or less *jitter*; *keep_order* is for UDP."""
        attributes = {"jitter": jitter, "distribution": distribution, "keep_order": keep_order}
        return self._add("latency", selectors, latency=latency, **attributes)

    def bandwidth(
        self,
        rate: int,
        *,
        shared: bool | None = None,
        queue: int | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Limit the rate, in units of 1,000 bytes a second.

        *shared* by all connections, or with a *queue* of so many datagrams.
        """
        return self._add("bandwidth", selectors, rate=rate, shared=shared, queue=queue)

    def corrupt(
        self,
        *,
        bits: int | None = None,
        bytes: int | None = None,  # noqa: A002 - the name of the attribute
        offset: int | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Flip bits; on streams replace bytes, or corrupt once at an *offset* of the stream."""
        return self._add("corrupt", selectors, bits=bits, bytes=bytes, offset=offset)

    def down(self, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Refuse all clients as if there were no server, and end the live connections."""
        return self._add("down", selectors)

    # Connections

    def refuse(
        self,
        how: Literal["close", "reset", "stall"] | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Close or reset new connections, or leave them in the backlog (``stall``)."""
        return self._add("refuse", selectors, how=how)

    def timeout(self, timeout: int | None = None, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Drop all data, and close after *timeout* milliseconds without data; 0 is never."""
        return self._add("timeout", selectors, timeout=timeout)

    def reset_peer(self, timeout: int | None = None, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Reset the connection *timeout* milliseconds after the first data."""
        return self._add("reset_peer", selectors, timeout=timeout)

    def limit_data(self, size: int, /, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Close the connection after *size* bytes."""
        return self._add("limit_data", selectors, bytes=size)

    def limit_time(
        self,
        time: int,
        *,
        how: Literal["close", "reset"] | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Close or reset the connection after *time* milliseconds."""
        return self._add("limit_time", selectors, time=time, how=how)

    def half_close(self, after: int | None = None, **selectors: Unpack[Selectors]) -> ActiveFault:
        """End one direction *after* so many bytes; the other stays open."""
        return self._add("half_close", selectors, after=after)

    def stall(
        self,
        after: int | None = None,
        *,
        time: int | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Stop reading *after* so many bytes, for *time* milliseconds or for good."""
        return self._add("stall", selectors, after=after, time=time)

    def slow_close(self, delay: int, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Delay the end of a direction by *delay* milliseconds."""
        return self._add("slow_close", selectors, delay=delay)

    def slicer(
        self,
        average_size: int,
        *,
        size_variation: int | None = None,
        delay: int | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Slice data into pieces of about so many bytes, *delay* microseconds after each."""
        attributes = {"size_variation": size_variation, "delay": delay}
        return self._add("slicer", selectors, average_size=average_size, **attributes)

    def packet_loss(
        self,
        loss_rate: float,
        *,
        correlation: float | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Drop a share of the pieces of the stream, which nothing sends again."""
        attributes = {"loss_rate": loss_rate, "correlation": correlation}
        return self._add("packet_loss", selectors, **attributes)

    def connect_fail(self, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Let a proxy fail to connect to its upstream."""
        return self._add("connect_fail", selectors)

    def connect_delay(self, delay: int, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Let a proxy take *delay* milliseconds longer to connect to its upstream."""
        return self._add("connect_delay", selectors, delay=delay)

    def noop(self, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Do nothing, and count."""
        return self._add("noop", selectors)

    # Datagrams

    def loss(
        self,
        probability: float = 1.0,
        *,
        model: Literal["independent", "gilbert"] | None = None,
        p: float | None = None,
        r: float | None = None,
        h: float | None = None,
        k: float | None = None,
        **selectors: Unpack[OtherSelectors],
    ) -> ActiveFault:
        """Drop datagrams with a probability; with the model ``gilbert`` in bursts."""
        selected: Selectors = {**selectors, "probability": probability}
        return self._add("loss", selected, model=model, p=p, r=r, h=h, k=k)

    def reorder(
        self,
        gap: int | None = None,
        *,
        hold: int | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Let *gap* datagrams overtake one that is held back for *hold* milliseconds at most."""
        return self._add("reorder", selectors, gap=gap, hold=hold)

    def duplicate(
        self,
        copies: int | None = None,
        *,
        delay: int | None = None,
        **selectors: Unpack[Selectors],
    ) -> ActiveFault:
        """Send *copies* of a datagram after it, *delay* milliseconds apart."""
        return self._add("duplicate", selectors, copies=copies, delay=delay)

    def truncate(self, to: int, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Cut datagrams to so many bytes."""
        return self._add("truncate", selectors, to=to)

    def limit_size(self, size: int, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Drop datagrams of more than *size* bytes."""
        return self._add("limit_size", selectors, size=size)

    def blackhole(self, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Drop all datagrams."""
        return self._add("blackhole", selectors)

    def unreachable(self, **selectors: Unpack[Selectors]) -> ActiveFault:
        """Refuse datagrams: the network answers that the port is unreachable."""
        return self._add("unreachable", selectors)
