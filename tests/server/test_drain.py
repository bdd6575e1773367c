"""The gate and its guards together: after any sequence of events the counts are exact."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from netsrv.gate import Gate
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.guards.rates import Rate
from netsrv.interfaces import CloseReason, RejectReason
from netsrv.streams.factory import GatedFactory
from tests.doubles import (
    DONE,
    TCP_INFO,
    HalfCloseableRecorder,
    Recorder,
    RecordingObserver,
    RecordingTransport,
)

LIMITS = Limits(
    max_connections=4,
    per_source=2,
    connection_rate=Rate(2, 5),
    idle_timeout=10,
    lifetime=4,
    write_timeout=3,
    close_grace=2,
)

LONGEST_STEP = 1.25
"""Seconds that one step advances at most."""

PLACES = 6
"""Slots of the process; the gate itself has fewer."""


class House:
    """A gate and what it depends on."""

    def __init__(self):
        self.clock = Clock()
        self.shared = ConnectionSlots(PLACES)
        self.admission = Admission(LIMITS, self.shared, 0.0)
        self.gate = Gate(
            self.clock,
            TCP_INFO,
            RecordingObserver(),
            self.admission,
            LIMITS,
            self.clock.seconds,
        )
        self.slots = [*self.admission.slots]

    def build(self, permit, service):
        """Build a connection to a service; None is a service that builds no protocol."""
        factory = Factory()
        factory.buildProtocol = lambda address: None if service is None else service()
        return GatedFactory(permit, factory).buildProtocol(None)


class DrainMachine(RuleBasedStateMachine):
    """Peers connect, send, stay and leave in every way, during drains too."""

    def __init__(self):
        super().__init__()
        self.house = House()
        self.inside = []
        self.since = {}
        self.waiters = []

    def picks(self, data):
        """Choose a live connection."""
        return data.draw(st.sampled_from(self.inside))

    @rule(
        host=st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]),
        service=st.sampled_from([Recorder, HalfCloseableRecorder, None]),
        gone=st.booleans(),
    )
    def comes(self, host, service, gone):
        """A peer connects; it may be gone at once, or get no protocol from the factory."""
        permit = self.house.gate.admit((host, 40_000))
        if isinstance(permit, RejectReason):
            return
        connection = None if gone else self.house.build(permit, service)
        if connection is not None:
            connection.makeConnection(RecordingTransport())
            self.inside.append(connection)
            self.since[connection] = self.house.clock.seconds()
        permit.cancel()

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), size=st.integers(0, 3))
    def talks(self, data, size):
        """A peer sends, and its service answers; the peer may not read it."""
        connection = self.picks(data)
        connection.dataReceived(b"x" * size)
        connection.write(b"x" * size)
        connection.transport._tempDataLen = size

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), how=st.sampled_from(["loseConnection", "abortConnection", "end"]))
    def is_closed(self, data, how):
        """The service or the server closes a connection; the transport takes its time."""
        why = [CloseReason.LIFETIME] if how == "end" else []
        getattr(self.picks(data), how)(*why)

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), how=st.sampled_from(["readConnectionLost", "writeConnectionLost"]))
    def is_half_closed(self, data, how):
        """One side of a connection half-closes."""
        getattr(self.picks(data), how)()

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def goes(self, data):
        """A connection is lost."""
        self.loses(self.picks(data))

    @rule(seconds=st.floats(0.1, 4 * LONGEST_STEP))
    def waits(self, seconds):
        """Time passes: connections end at their limits."""
        self.house.clock.pump([seconds / 4] * 4)

    @rule()
    def aborts_all(self):
        """The drain's time is over: each remaining connection is aborted once."""
        left = [each for each in self.inside if not each.aborted]
        assert self.house.gate.abort_all() == len(left)
        assert all(each.transport.calls[-1] == ("abortConnection",) for each in left)

    @rule()
    def begins_to_drain(self):
        """A caller waits for the end of the last connection; the gate may open again."""
        fired = []
        gate = self.house.gate
        gate.when_drained().addCallback(fired.append)
        gate.close()
        assert fired == ([] if self.inside else [None])
        self.waiters.append(fired)

    def loses(self, connection):
        """Report the loss of a transport; the last one calls the waiting callers."""
        open_waiters = [each for each in self.waiters if not each]
        connection.connectionLost(DONE)
        self.inside.remove(connection)
        told = [] if self.inside else [None]
        assert all(each == told for each in open_waiters)

    @invariant()
    def counts_are_right(self):
        """Each slot in use belongs to a live connection, and an empty gate has no waiter."""
        house = self.house
        assert set(house.gate.connections) == set(self.inside)
        assert all(each.in_use == len(self.inside) >= 0 for each in house.slots)
        assert len(self.inside) <= 4
        assert all(len(fired) <= 1 for fired in self.waiters)
        assert self.inside or all(self.waiters)

    @invariant()
    def no_connection_outlives_the_limits(self):
        """A connection older than all limits together has been closed by the gate."""
        now = self.house.clock.seconds()
        for connection in self.inside:
            if now - self.since[connection] > LIMITS.lifetime + LONGEST_STEP:
                assert connection.disconnecting

    def teardown(self):
        """At the end every count is 0, each waiter was called once, and no timer is left."""
        for connection in list(self.inside):
            self.loses(connection)
        self.counts_are_right()
        assert [each.in_use for each in self.house.slots] == [0, 0]
        assert all(fired == [None] for fired in self.waiters)
        self.house.gate.close()
        assert self.house.clock.getDelayedCalls() == []
        assert self.house.admission.retry_after(self.house.clock.seconds() + 100) == 0


TestDrain = DrainMachine.TestCase
