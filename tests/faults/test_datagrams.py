"""The faults of datagrams, on a real listener with a socket in memory."""

import pytest

from netsrv.datagrams.faulty import FaultyDatagrams
from netsrv.faults.table import FaultTable
from netsrv.testing.servers import MemoryServer
from tests.faults.lines import make_datagram_fault as make_fault

PEER = ("192.0.2.1", 40000)


class Lines:
    """A datagram service whose listener has faults; *answers* has what it has sent, and when."""

    def __init__(self, *faults, service="echo", **limits):
        limits = {"datagram_rate": "none", **limits}
        self.server = MemoryServer(service, "udp", **limits)
        self.clock = self.server.clock
        [listener] = self.server.server.listeners
        self.table = FaultTable(self.server._reactor, self.clock.seconds)
        self.drops = 0
        listener._listener.interpose(self.make)
        for fault in faults:
            self.table.add(fault.settings)
        self.sock = self.server._sock
        self.answers = []

    def make(self, gate, port):
        """Make what stands between the port and the gate."""
        self.faulty = FaultyDatagrams(
            gate, port, self.server._reactor, self.clock.seconds, self.dropped
        )
        self.table.targets[self.faulty] = None
        return self.faulty

    def dropped(self):
        """Count a drop."""
        self.drops += 1

    def send(self, *datagrams, peer=PEER):
        """Let datagrams arrive together."""
        for datagram in datagrams:
            self.sock.arrive(datagram, peer)
        self.server.settle()
        self._collect()

    def step(self, milliseconds):
        """Advance the clock."""
        for _ in range(milliseconds):
            self.server.advance(0.001)
            self._collect()

    def _collect(self):
        for data, _ in self.sock.sent:
            self.answers.append((round(self.clock.seconds() * 1000), data))
        self.sock.sent.clear()

    @property
    def data(self):
        """The answers without their times."""
        return [data for _, data in self.answers]


NUMBERS = [b"%03d" % number for number in range(200)]


def test_loss_drops_requests_or_answers_by_its_probability():
    """The same seed drops the same datagrams."""
    runs = []
    for stream in ("upstream", "downstream", "downstream"):
        lines = Lines(make_fault("loss", stream=stream, probability=0.3, seed=5))
        lines.send(*NUMBERS)
        runs.append(lines.data)
        assert 40 < lines.drops < 80
        assert len(lines.data) == 200 - lines.drops
    assert runs[1] == runs[2] != runs[0]


def test_a_peer_is_hit_alike_whatever_others_send():
    """Each peer has random numbers of its own."""
    runs = []
    for noise in (0, 50):
        lines = Lines(make_fault("loss", stream="upstream", probability=0.5, seed=5))
        lines.send(b"first")
        for _ in range(noise):
            lines.send(b"noise", peer=("192.0.2.9", 40009))
        lines.send(*NUMBERS)
        runs.append([data for data in lines.data if data in NUMBERS])
    assert runs[0] == runs[1]


def test_gilbert_loses_datagrams_in_bursts():
    """The mean loss is p / (p + r), the mean length of a burst 1 / r."""
    values = {"model": "gilbert", "p": 0.05, "r": 0.25, "seed": 3}
    lines = Lines(make_fault("loss", stream="upstream", **values))
    numbers = [b"%05d" % number for number in range(6000)]
    for start in range(0, 6000, 50):
        lines.send(*numbers[start : start + 50])
    lost = set(range(6000)) - {int(data) for data in lines.data}
    bursts = sum(number - 1 not in lost for number in lost)
    assert 0.14 < len(lost) / 6000 < 0.20
    assert 3.2 < len(lost) / bursts < 4.8


def test_latency_delays_and_keeps_the_order():
    """Each direction has its own latency."""
    lines = Lines(make_fault("latency", stream="both", latency=50))
    lines.send(b"a")
    lines.step(10)
    lines.send(b"b")
    lines.step(150)
    assert lines.answers == [(100, b"a"), (110, b"b")]
    lines = Lines(make_fault("latency", latency=50, jitter=50, seed=1))
    lines.send(*NUMBERS[:50])
    lines.step(150)
    assert lines.data == NUMBERS[:50]


def test_latency_may_reorder():
    """With keep_order off, each datagram has its own delay."""
    lines = Lines(make_fault("latency", latency=50, jitter=50, keep_order=False, seed=1))
    lines.send(*NUMBERS[:50])
    lines.step(150)
    assert lines.data != NUMBERS[:50]
    assert sorted(lines.data) == NUMBERS[:50]


def test_reorder_lets_others_overtake():
    """The one that is hit is released by the next, or by time."""
    lines = Lines(make_fault("reorder", first=1, gap=2, hold=100))
    lines.send(*NUMBERS[:5])
    assert lines.data == [b"001", b"002", b"000", b"003", b"004"]
    lines = Lines(make_fault("reorder", first=1, hold=100))
    lines.send(b"only")
    lines.step(120)
    assert lines.answers == [(100, b"only")]


def test_duplicate_sends_copies_of_answers():
    """Copies come at once, or later."""
    lines = Lines(make_fault("duplicate", copies=2))
    lines.send(b"x")
    assert lines.data == [b"x"] * 3
    lines = Lines(make_fault("duplicate", copies=2, delay=10))
    lines.send(b"x")
    lines.step(30)
    assert lines.answers == [(0, b"x"), (10, b"x"), (20, b"x")]


def test_corrupt_truncate_and_limit_size():
    """Each does what its name says."""
    lines = Lines(make_fault("corrupt", bits=1, seed=2))
    lines.send(bytes(10))
    assert sum(lines.data[0]).bit_count() == 1
    lines = Lines(make_fault("truncate", to=3))
    lines.send(b"hello", b"hi")
    assert lines.data == [b"hel", b"hi"]
    lines = Lines(make_fault("limit_size", size=3))
    lines.send(b"hello", b"hi")
    assert lines.data == [b"hi"]
    assert lines.drops == 1


def test_bandwidth_has_a_queue_and_drops_beyond_it():
    """1,000 bytes at 100 kB/s take 10 ms each."""
    lines = Lines(make_fault("bandwidth", rate=100, queue=3))
    lines.send(*[bytes(1000)] * 5)
    lines.step(50)
    assert [time for time, _ in lines.answers] == [10, 20, 30]
    assert lines.drops == 2


def test_blackhole_drops_all_and_selectors_hold():
    """The first three are lost."""
    lines = Lines(make_fault("blackhole", stream="upstream", first=3))
    lines.send(*NUMBERS[:5])
    assert lines.data == NUMBERS[3:5]
    assert lines.table.faults["blackhole_upstream"].hits == 3


def test_a_removal_passes_what_is_held_at_once():
    """Nothing is lost, and no timer stays."""
    lines = Lines(make_fault("latency", "slow", latency=10_000))
    lines.send(*NUMBERS[:20])
    assert not lines.data
    lines.table.remove("slow")
    lines.server.settle()
    lines._collect()
    assert lines.data == NUMBERS[:20]


def test_what_is_held_is_bounded():
    """Beyond the bound datagrams are dropped, and counted."""
    lines = Lines(make_fault("latency", stream="upstream", latency=10_000))
    for _ in range(300):
        lines.send(*[b"x"] * 40)
    assert lines.drops == 2000


@pytest.mark.parametrize("service", ["daytime", "chargen", "info"])
def test_a_service_that_takes_no_batches_answers_late_requests(service):
    """The rules for replies hold for them as for others."""
    lines = Lines(make_fault("latency", stream="upstream", latency=20), service=service)
    lines.send(b"x" * 200)
    assert not lines.data
    lines.step(30)
    assert [time for time, _ in lines.answers] == [20]


def test_the_end_of_the_listener_drops_what_is_held():
    """No timer is left."""
    lines = Lines(make_fault("latency", latency=10_000))
    lines.send(b"x")
    lines.server.drain(0)
    assert lines.drops == 1
    assert not lines.clock.getDelayedCalls()


@pytest.mark.parametrize("end", ["resume", "close"])
def test_requests_that_come_late_to_a_suspended_listener_wait(end):
    """All are answered when it resumes, and counted; or else dropped when it ends."""
    lines = Lines(make_fault("latency", "l", "upstream", latency=1000))
    [listener] = lines.server.server.listeners
    lines.send(b"0", b"1", b"2")
    listener.suspend()
    lines.step(1100)
    getattr(listener, end)()
    lines.step(1)
    counts = lines.server.counts
    if end == "resume":
        assert (lines.data, counts.datagrams_received) == ([b"0", b"1", b"2"], 3)
    else:
        assert (lines.data, counts.datagrams_dropped) == ([], {"stopped": 3})
