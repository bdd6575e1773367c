"""Fixtures of the tests of observers: the log as text, and a clock."""

import pytest
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher


@pytest.fixture
def lines():
    """Collect the log, as text."""
    found = []

    def see(event):
        found.append(formatEvent(event))

    globalLogPublisher.addObserver(see)
    yield found
    globalLogPublisher.removeObserver(see)


@pytest.fixture
def clock():
    """A clock that a test steps."""
    return Clock()
