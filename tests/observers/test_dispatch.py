"""Several observers behind one dispatcher."""

import pytest
from zope.interface.verify import verifyObject

from netsrv.batches import Datagrams
from netsrv.guards.sources import Flow
from netsrv.interfaces import DropReason, IObserver
from netsrv.observers.dispatch import Observer, ObserverDispatcher


class Listening(Observer):
    """Overrides one event."""

    def __init__(self):
        self.told = []

    def resumed(self, listener):
        self.told.append(listener)


class Raising(Observer):
    """Raises at an event."""

    def resumed(self, listener):
        raise RuntimeError(listener)


def test_an_observer_that_overrides_nothing_is_one():
    """An observer and the dispatcher provide the whole interface."""
    assert verifyObject(IObserver, Observer())
    assert verifyObject(IObserver, ObserverDispatcher())


def test_an_observer_gets_the_events_that_it_overrides():
    """An added observer gets later events, a removed one none."""
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
def test_an_observer_that_raises_is_removed(expected_failures):
    """The others get the event, and the failure is logged once."""
    before, after = Listening(), Listening()
    audience = ObserverDispatcher([before, Raising(), after])
    audience.resumed("one")
    audience.resumed("two")
    assert before.told == after.told == ["one", "two"]


def test_an_observer_may_remove_itself_during_an_event():
    """The other observers still get the event."""

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


class Sizes(Observer):
    """Records the peer and the size of each datagram received."""

    def __init__(self):
        self.seen = []

    def datagrams_received(self, listener, datagrams):
        self.seen += datagrams


def test_a_batch_is_one_event_that_iterates_over_its_datagrams():
    """An observer of one datagram event gets no other."""
    sizes = Sizes()
    dispatcher = ObserverDispatcher([sizes])
    dispatcher.datagrams_received(HERE, BATCH)
    dispatcher.datagrams_sent(HERE, BATCH)
    dispatcher.datagrams_refused(HERE, BATCH, DropReason.ACCESS)
    dispatcher.datagram_dropped(HERE, DropReason.TOO_LONG, None)
    assert sizes.seen == [(PEERS[0], 5), (PEERS[1], 0)]


def test_an_observer_need_not_derive_from_ours():
    """Every event is called on an object that provides the interface by itself."""

    class Foreign:
        def __init__(self):
            self.events = []

        def __getattr__(self, event):
            return lambda *details: self.events.append(event)

    foreign = Foreign()
    dispatcher = ObserverDispatcher([foreign])
    dispatcher.datagrams_received(HERE, BATCH)
    dispatcher.datagrams_sent(HERE, BATCH)
    assert foreign.events == ["datagrams_received", "datagrams_sent"]


@pytest.mark.parametrize("expected_failures", [["RuntimeError"]])
def test_an_observer_that_raises_in_the_middle_of_a_batch_is_removed():
    """The others get the whole batch, and the next one."""

    class Failing(Sizes):
        def datagrams_received(self, listener, datagrams):
            for datagram in datagrams:
                self.seen.append(datagram)
                raise RuntimeError("raised on purpose")

    failing, sizes = Failing(), Sizes()
    dispatcher = ObserverDispatcher([failing, sizes])
    dispatcher.datagrams_received(HERE, BATCH)
    dispatcher.datagrams_received(HERE, BATCH)
    assert (len(failing.seen), len(sizes.seen)) == (1, 4)
