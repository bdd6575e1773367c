"""Calls in a thread of their own."""

import threading

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock

from netsrv.in_thread import call_in_thread
from tests.reactor import until


@pytest_twisted.ensureDeferred
async def test_a_result_comes_from_a_thread_that_ends():
    """So the process has as many threads as before."""
    before = threading.active_count()
    name = await call_in_thread(reactor, lambda: threading.current_thread().name)
    assert name == "netsrv"
    await until(lambda: threading.active_count() == before)


@pytest_twisted.ensureDeferred
async def test_an_exception_is_a_failure():
    """Also one that would end the process."""
    for kind in (ValueError, SystemExit):

        def fail(kind=kind):
            raise kind("x")

        with pytest.raises(kind):
            await call_in_thread(reactor, fail)


@pytest_twisted.ensureDeferred
async def test_without_a_thread_it_is_called_at_once(monkeypatch):
    """On a clock, and if the system starts no more threads."""
    assert await call_in_thread(Clock(), threading.get_ident) == threading.get_ident()

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert await call_in_thread(reactor, lambda value: value + 1, 1) == 2
