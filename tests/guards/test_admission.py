"""The guards of a listener together: after any sequence every count is exact."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.guards.rates import Rate
from netsrv.guards.sources import source_of
from netsrv.interfaces import RejectReason

HOSTS = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "10.0.0.1"]
SOURCES = [*(source_of(each) for each in HOSTS), None]


class AdmissionMachine(RuleBasedStateMachine):
    """Peers come and go at two listeners that share the slots of the process."""

    def __init__(self):
        super().__init__()
        self.shared = ConnectionSlots(5)
        self.admissions = [
            Admission(Limits(max_connections=4, per_source=2), self.shared, 0),
            Admission(Limits(per_source=3, connection_rate=Rate(2, 3)), self.shared, 0),
        ]
        self.inside = [[], []]
        self.now = 0.0
        self.called = 0

    @rule(listener=st.integers(0, 1), source=st.sampled_from(SOURCES))
    def comes(self, listener, source):
        """A peer connects."""
        admission, inside = self.admissions[listener], self.inside[listener]
        was_full, wait = admission.full, admission.retry_after(self.now)
        refusal = admission.admit(source, self.now)
        if refusal is None:
            assert not was_full
            assert wait == 0
            inside.append(source)
        else:
            assert (refusal is RejectReason.MAX_CONNECTIONS) == was_full

    @precondition(lambda self: any(self.inside))
    @rule(data=st.data())
    def goes(self, data):
        """A connection ends, and waiters for a slot are called."""
        listener = data.draw(st.sampled_from([n for n in (0, 1) if self.inside[n]]))
        source = data.draw(st.sampled_from(self.inside[listener]))
        self.called = 0
        self.shared.on_release(self.call)
        self.shared.on_release(self.call)
        self.inside[listener].remove(source)
        self.admissions[listener].release(source)
        assert self.called == 1

    def call(self):
        """Count the calls of a waiter."""
        self.called += 1

    @rule(seconds=st.floats(0, 2))
    def waits(self, seconds):
        """Time passes."""
        self.now += seconds

    @invariant()
    def limits_hold(self):
        """No limit is exceeded, and the slots in use are those of live connections."""
        assert 0 <= self.shared.in_use == sum(map(len, self.inside)) <= 5
        assert len(self.inside[0]) <= 4
        for inside, share in zip(self.inside, (2, 3), strict=True):
            keys = [each.key for each in inside if each is not None]
            assert all(keys.count(each) <= share for each in keys)

    def teardown(self):
        """After the last connection every count is 0 and every table empty."""
        for admission, inside in zip(self.admissions, self.inside, strict=True):
            for source in inside:
                admission.release(source)
            assert admission.slots[0].in_use == 0
            assert len(admission._per_source) == 0
        assert self.shared.in_use == 0


TestAdmission = AdmissionMachine.TestCase


def test_access_comes_first_and_costs_nothing():
    """A peer that is denied access takes no slot and no token."""
    no_access = Limits(no_access=(), only_from=(), max_connections=1, connection_rate=Rate(1, 1))
    admission = Admission(no_access, ConnectionSlots(), 0)
    assert admission.admit(None, 0) is None
    assert admission.admit(None, 0) is RejectReason.MAX_CONNECTIONS
    admission.release(None)
    assert admission.admit(None, 0) is RejectReason.CONNECTION_RATE
    assert admission.slots[0].in_use == 0
    assert admission.admit(None, 1) is None


def test_f15_a_million_come_and_go():
    """F15: after a million connections none is counted, and the table of sources is empty."""
    shared = ConnectionSlots(10)
    admission = Admission(Limits(max_connections=5, per_source=3), shared, 0)
    for number in range(1_000_000):
        source = SOURCES[number % len(SOURCES)]
        assert admission.admit(source, number) is None
        admission.release(source)
    assert (shared.in_use, admission.slots[0].in_use, len(admission._per_source)) == (0, 0, 0)
