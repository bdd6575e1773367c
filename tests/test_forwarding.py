"""Attributes of an object that are those of another object behind it."""

import pytest
from zope.interface import Attribute, Interface
from zope.interface.verify import verifyObject

from netsrv.forwarding import forward


class IParent(Interface):
    """An interface from which another derives."""

    def first():
        """Return 1."""


class IBehind(IParent):
    """What the object behind provides."""

    size = Attribute("int: a number")

    def second():
        """Return 2."""


class Behind:
    """The object behind."""

    size = 5

    def first(self):
        return 1

    def second(self):
        return 2

    def extra(self):
        return 3


@forward("behind", IBehind, "extra")
class Front:
    """The object in front; it has one method of its own."""

    def __init__(self):
        self.behind = Behind()

    def second(self):
        return 22


def test_an_interface_is_forwarded_with_those_that_it_derives_from():
    """The class declares it, and what it defines itself stays."""
    front = Front()
    assert (front.first(), front.size, front.second(), front.extra()) == (1, 5, 22, 3)
    assert verifyObject(IBehind, front)
    assert IBehind.implementedBy(Front)


def test_a_forwarded_attribute_follows_the_object_behind():
    """It is looked up at each use, and can be set only there."""
    front = Front()
    front.behind.size = 6
    assert front.size == 6
    with pytest.raises(AttributeError):
        front.size = 7
    del front.behind
    with pytest.raises(AttributeError):
        front.extra  # noqa: B018


def test_a_subclass_may_override_what_is_forwarded():
    """As any other attribute."""

    class Derived(Front):
        def first(self):
            return super().first() * 10

    assert Derived().first() == 10
