"""Sets of ports, kept as ranges: a line of text may name all 65,536 of them many times."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Set

from netsrv.settings import quote_value

MAX_PORT = 65535


class PortRanges(Set[int]):
    """A frozen set of ports, which takes as much room as its ranges."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Merge *ranges*, pairs of a first and a last port."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for low, high in sorted(ranges):
            if self._ends and low <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], high)
            else:
                self._starts.append(low)
                self._ends.append(high)

    @classmethod
    def _from_iterable(cls, ports: Iterable[int]) -> "PortRanges":  # type: ignore[override]
        return cls((port, port) for port in ports)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The ranges in order; no two of them touch."""
        return list(zip(self._starts, self._ends, strict=True))

    def __contains__(self, port: object) -> bool:
        if not isinstance(port, int):
            return False
        index = bisect_right(self._starts, port) - 1
        return index >= 0 and port <= self._ends[index]

    def __iter__(self) -> Iterator[int]:
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def __len__(self) -> int:
        return sum(self._ends) - sum(self._starts) + len(self._starts)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PortRanges):
            return self.ranges == other.ranges
        return super().__eq__(other)

    def __hash__(self) -> int:
        return self._hash()

    def __repr__(self) -> str:
        return f"PortRanges({show_ports(self)!r})"


def parse_ports(text: str) -> PortRanges:
    """Parse ``0-1023,2049``, or ``none``.  Raises ValueError that shows the syntax."""
    return PortRanges(() if text == "none" else map(_parse_range, text.split(",")))


def show_ports(ports: Set[int]) -> str:
    """Return a set of ports as users write it: ``0-1023,2049``, or ``none``."""
    ranges = PortRanges((port, port) for port in ports).ranges
    texts = (str(low) if low == high else f"{low}-{high}" for low, high in ranges)
    return ",".join(texts) or "none"


def _parse_range(part: str) -> tuple[int, int]:
    first, dash, last = part.strip().partition("-")
    last = last if dash else first
    if not (part.isascii() and first.isdigit() and last.isdigit()):
        raise ValueError(f"{quote_value(part)}: write ports as 0-1023,2049, or none")
    low, high = (int(digits.lstrip("0")[:6] or "0") for digits in (first, last))
    if not low <= high <= MAX_PORT:
        raise ValueError(
            f"{quote_value(part)}: ports are numbers from 0 to {MAX_PORT}, the lower one first"
        )
    return low, high
