"""Fixtures and checks that apply to every test.

A test leaves the reactor as it found it: no delayed call, no watched descriptor, no
unexpected failure in the log.

With the environment variable NETSRV_TEST_REACTOR=uvloop that is the uvloop reactor, and
Twisted's default otherwise.
"""

import gc
import os
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from unittest import TestCase

import pytest
import pytest_twisted
from hypothesis import settings

if os.environ.get("NETSRV_TEST_REACTOR") == "uvloop":
    from netsrv.uvreactor import install
    from netsrv.uvreactor.reactor import UvloopReactor

    install()
    pytest_twisted.reactor_installers["default"] = partial(
        pytest_twisted._install_reactor, lambda: None, UvloopReactor
    )

from twisted.internet import reactor
from twisted.logger import LogEvent, globalLogPublisher

from tests.process.networks import leave_the_machine
from tests.reactor import watched
from tests.timeouts import EXAMPLE_DEADLINE

settings.register_profile("netsrv", deadline=timedelta(seconds=EXAMPLE_DEADLINE))
settings.load_profile("netsrv")


def pytest_configure(config: pytest.Config) -> None:
    """Return each worker of pytest-xdist a network, and so all ports, of its own."""
    if hasattr(config, "workerinput"):
        leave_the_machine()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run trial's test cases first: asynchronous ones fail after a test function has run."""
    items.sort(key=lambda item: not issubclass(getattr(item, "cls", None) or object, TestCase))


def pytest_collection_finish() -> None:
    """Freeze long-lived objects so that the garbage collection after each test stays fast."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def freeze_after_module() -> Iterator[None]:
    """Freeze what outlives a module too: the reports of its tests, and modules imported late."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def expected_failures() -> list[str]:
    """Names of the exception types that this test expects in the log."""
    return []


@pytest.fixture(autouse=True)
def clean_reactor(expected_failures: list[str]) -> Iterator[None]:
    """Fail a test that leaves something in the reactor, or an unexpected error in the log."""
    logged: list[str] = []

    def see(event: LogEvent) -> None:
        failure = event.get("log_failure") or event.get("failure")  # new and old loggers
        if failure is not None:
            logged.append(failure.type.__name__)

    calls = set(reactor.getDelayedCalls())
    before = watched()
    globalLogPublisher.addObserver(see)
    yield
    gc.collect()  # a Deferred logs an unhandled error when it is collected
    globalLogPublisher.removeObserver(see)
    assert logged == expected_failures
    assert set(reactor.getDelayedCalls()) - calls == set()
    assert watched() - before == set()
