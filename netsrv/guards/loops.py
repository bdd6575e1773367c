"""Loops between two servers that answer each other, slower than any rate.

A loop never ends by itself: each datagram is the answer to one of ours.  So it is steady, it
repeats its contents or ours, and it is over once a datagram of it gets no answer.  A flow that
looks like that is not answered for a while: longer than a datagram takes to the other server and
back.

A peer with other contents, or with pauses, is never suspected.
"""

from collections.abc import Iterable

from netsrv.guards.sources import Source

Peer = tuple[str, int]
"""A numeric address and a port."""

INTERVAL = 1.0
"""Seconds in which the datagrams of a flow are counted."""

STEADY_COUNT = 4
"""Datagrams, at least, in an interval of a steady flow."""

STEADY_INTERVALS = 3
"""Intervals, one after another, after which the contents of a steady flow are compared."""

WATCH_INTERVALS = 3
"""Intervals in which they are compared."""

REPETITIONS = 8
"""Datagrams of a loop, at least, with contents that came from the peer, or went to it, before."""

MAX_PER_REPETITION = 3
"""Datagrams of a loop for each of these, at most."""

FIRST_PAUSE = 2.0
"""Seconds for which the first loop of a flow gets no answer; each further one twice as long."""

MAX_PAUSE = 64.0
"""Seconds of the longest pause."""

FORGET_AFTER = 60.0
"""Seconds after a pause in which no loop is seen; then the next one is the first again."""

MAX_COUNTED = 16_384
"""Flows that are counted in an interval; those that come later are not."""

MAX_WATCHED = 128
"""Flows whose contents are compared at a time; others wait for their turn."""

MAX_CONTENTS = 512
"""Contents of a flow that are remembered, as hashes."""

MAX_PAUSED = 1024
"""Flows whose pauses are remembered; the oldest pause ends early for a new one."""


class FlowCount:
    """A flow, and the datagrams of it that were served since they were last collected."""

    __slots__ = ("count", "peer", "source")

    def __init__(self, source: Source, peer: Peer) -> None:
        self.source = source
        self.peer = peer
        self.count = 0


class _Contents:
    """The contents of a watched flow."""

    __slots__ = ("intervals", "repeated", "seen", "total")

    def __init__(self) -> None:
        self.intervals = 0
        self.total = self.repeated = 0
        self.seen: set[int] = set()

    def repeats(self, datagram: bytes) -> bool:
        """Add a datagram; return True if the flow repeats itself."""
        self.total += 1
        if hash(datagram) in self.seen:
            self.repeated += 1
        else:
            self.add(datagram)
        return self.repeated >= max(REPETITIONS, self.total / MAX_PER_REPETITION)

    def add(self, datagram: bytes) -> None:
        """Remember a datagram of the peer, or a reply to it."""
        if len(self.seen) < MAX_CONTENTS:
            self.seen.add(hash(datagram))


class _Pause:
    """The last pause of a flow, which ends at *until*; *number* pauses make the next one longer."""

    __slots__ = ("number", "until")

    def __init__(self) -> None:
        self.number = 0
        self.until = 0.0


class LoopGuard:
    """Finds loops among the flows of a listener; *now* is in seconds of a monotonic clock.

    `add` counts what was served, and `end_interval` is to be called from `next_interval` on.
    """

    def __init__(self) -> None:
        self.next_interval = 0.0
        """When the present interval is over."""
        self.watched: dict[Peer, _Contents] = {}
        """The flows whose datagrams go through `is_loop`."""
        self.paused: dict[Peer, _Pause] = {}
        """The flows that were in a loop, of which some may be served again."""
        self._counts: dict[Peer, int] = {}
        self._runs: dict[Peer, int] = {}
        """For each steady flow, how many intervals it has been steady, the last one included."""

    def add(self, flows: Iterable[FlowCount]) -> None:
        """Collect the counts of flows."""
        counts = self._counts
        for flow in flows:
            if flow.count:
                if flow.peer in counts:
                    counts[flow.peer] += flow.count
                elif len(counts) < MAX_COUNTED:
                    counts[flow.peer] = flow.count
                flow.count = 0

    def end_interval(self, now: float) -> None:
        """Find the flows that have been steady, and begin the next interval."""
        adjacent = now < self.next_interval + INTERVAL
        self.next_interval = (now // INTERVAL + 1) * INTERVAL
        counts, self._counts = self._counts, {}
        if not adjacent:  # nothing was served in the last interval
            self._runs.clear()
            self.watched.clear()
        else:
            self._runs = {
                peer: self._runs.get(peer, 0) + 1
                for peer, count in counts.items()
                if count >= STEADY_COUNT
            }
            self._watch()
        self._forget_pauses(now)

    def _watch(self) -> None:
        """Watch the flows that are steady; stop with those that are not, or have been for long."""
        for peer, contents in list(self.watched.items()):
            contents.intervals += 1
            if peer not in self._runs or contents.intervals >= WATCH_INTERVALS:
                del self.watched[peer]
                self._runs.pop(peer, None)
        for peer, run in self._runs.items():
            if run >= STEADY_INTERVALS and peer not in self.watched:
                if len(self.watched) >= MAX_WATCHED:
                    break
                self.watched[peer] = _Contents()

    def is_paused(self, peer: Peer, now: float) -> bool:
        """Return True if a flow gets no answer now, since it was in a loop."""
        pause = self.paused.get(peer)
        return pause is not None and now < pause.until

    def is_loop(self, peer: Peer, datagram: bytes, now: float) -> bool:
        """Compare a datagram of a watched flow; return True, and pause, if it is a loop."""
        contents = self.watched.get(peer)
        if contents is None or not contents.repeats(datagram):
            return False
        del self.watched[peer]
        self._runs.pop(peer, None)
        pause = self.paused.pop(peer, None) or _Pause()
        if len(self.paused) >= MAX_PAUSED:
            del self.paused[next(iter(self.paused))]
        pause.until = now + min(FIRST_PAUSE * 2**pause.number, MAX_PAUSE)
        pause.number = min(pause.number + 1, 32)
        self.paused[peer] = pause
        return True

    def sent(self, peer: Peer, reply: bytes) -> None:
        """Remember a reply to a watched flow."""
        contents = self.watched.get(peer)
        if contents is not None:
            contents.add(reply)

    def _forget_pauses(self, now: float) -> None:
        for peer, pause in list(self.paused.items()):
            if now >= pause.until + FORGET_AFTER:
                del self.paused[peer]
