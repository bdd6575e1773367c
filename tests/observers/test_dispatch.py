"""Several observers, told as one."""

import pytest
from zope.interface.verify import verifyObject

from netsrv.batches import Datagrams
from netsrv.guards.sources import Flow
from netsrv.interfaces import DropReason, IBatchObserver
from netsrv.observers.dispatch import Observer, ObserverDispatcher


class Listening(Observer):
    """Wants to know of one event."""

    def __init__(self):
        self.told = []

    def resumed(self, listener):
        self.told.append(listener)


class Raising(Observer):
    """Cannot bear an event."""

    def resumed(self, listener):
        raise RuntimeError(listener)


def test_an_observer_that_overrides_nothing_is_one():
    """The interface is whole, for one who observes and for all of them."""
    assert verifyObject(IBatchObserver, Observer())
    assert verifyObject(IBatchObserver, ObserverDispatcher())


def test_each_is_told_of_what_it_wants_to_know():
    """Who is added is told from then on, who is removed no more."""
    first, second = Listening(), Listening()
    audience = ObserverDispatcher([first])
    audience.resumed("one")
    audience.add(second)
    audience.resumed("two")
    audience.stalled(1.0)
    audience.remove(first)
    audience.resumed("three")
    assert (first.told, second.told) == (["one", "two"], ["two", "three"])


@pytest.mark.parametrize("expected_failures", [["RuntimeError"]])
def test_who_raises_is_told_nothing_more_and_disturbs_nobody(expected_failures):
    """The others are told, the failure is logged, once."""
    before, after = Listening(), Listening()
    audience = ObserverDispatcher([before, Raising(), after])
    audience.resumed("one")
    audience.resumed("two")
    assert before.told == after.told == ["one", "two"]


def test_who_leaves_while_it_is_told_disturbs_nobody():
    """An observer may remove itself when it has seen what it waited for."""

    class Leaving(Listening):
        def resumed(self, listener):
            super().resumed(listener)
            audience.remove(self)

    leaving, staying = Leaving(), Listening()
    audience = ObserverDispatcher([leaving, staying])
    audience.resumed("one")
    audience.resumed("two")
    assert (leaving.told, staying.told) == (["one"], ["one", "two"])


HERE = "udp 0.0.0.0:7 (echo)"
PEERS = [("192.0.2.1", 40000), ("192.0.2.2", 40000)]
BATCH = Datagrams([Flow(each) for each in PEERS], [5, 0])


class Single(Observer):
    """Wants each datagram."""

    def __init__(self):
        self.told = []

    def datagram_received(self, *details):
        self.told.append(("received", *details))

    def datagram_sent(self, *details):
        self.told.append(("sent", *details))

    def datagram_refused(self, *details):
        self.told.append(("refused", *details))


class Whole(Observer):
    """Wants batches."""

    def __init__(self):
        self.told = []

    def datagrams_received(self, *details):
        self.told.append(("batch", *details))


class SingleAgain(Whole):
    """Derives from one that wants batches, and wants each of them."""

    def datagram_received(self, *details):
        self.told.append(("received", *details))


def test_a_batch_is_told_as_one_or_one_by_one_as_each_observer_wants_it():
    """Nobody is told twice, and nobody misses one."""
    single, whole, again = Single(), Whole(), SingleAgain()
    audience = ObserverDispatcher([single, whole, again])
    audience.datagrams_received(HERE, BATCH)
    received = [("received", HERE, PEERS[0], 5), ("received", HERE, PEERS[1], 0)]
    assert single.told == again.told == received
    assert whole.told == [("batch", HERE, BATCH)]
    audience.datagrams_sent(HERE, BATCH)
    audience.datagrams_refused(HERE, BATCH, DropReason.ACCESS)
    assert single.told[2:] == [
        ("sent", HERE, PEERS[0], 5),
        ("sent", HERE, PEERS[1], 0),
        ("refused", HERE, PEERS[0], DropReason.ACCESS),
        ("refused", HERE, PEERS[1], DropReason.ACCESS),
    ]
    assert (len(whole.told), len(again.told)) == (1, 2)


def test_an_observer_that_knows_no_batches_is_told_of_each_datagram():
    """It need not derive from ours."""

    class Foreign:
        told = 0

        def datagram_received(self, listener, peer, size):
            self.told += 1

        def __getattr__(self, event):
            return lambda *details: None

    foreign = Foreign()
    audience = ObserverDispatcher([foreign])
    audience.datagrams_received(HERE, BATCH)
    audience.datagrams_sent(HERE, BATCH)
    assert foreign.told == 2


@pytest.mark.parametrize("expected_failures", [["RuntimeError"]])
def test_who_raises_in_the_middle_of_a_batch_is_told_nothing_more():
    """The others are told of all of it."""

    class Weak(Single):
        def datagram_received(self, *details):
            super().datagram_received(*details)
            raise RuntimeError("as told")

    weak, single = Weak(), Single()
    audience = ObserverDispatcher([weak, single])
    audience.datagrams_received(HERE, BATCH)
    audience.datagrams_received(HERE, BATCH)
    assert (len(weak.told), len(single.told)) == (1, 4)
