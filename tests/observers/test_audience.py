"""Several observers, told as one."""

import pytest
from zope.interface.verify import verifyObject

from netsrv.interfaces import IObserver
from netsrv.observers.audience import Audience, Observer


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
    assert verifyObject(IObserver, Observer())
    assert verifyObject(IObserver, Audience())


def test_each_is_told_of_what_it_wants_to_know():
    """Who is added is told from then on, who is removed no more."""
    first, second = Listening(), Listening()
    audience = Audience([first])
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
    audience = Audience([before, Raising(), after])
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
    audience = Audience([leaving, staying])
    audience.resumed("one")
    audience.resumed("two")
    assert (leaving.told, staying.told) == (["one"], ["one", "two"])
