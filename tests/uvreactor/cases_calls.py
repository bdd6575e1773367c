"""Cases with calls that come later, from other threads, and at the end."""

import os
import signal
import threading
import time

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    AlreadyCalled,
    AlreadyCancelled,
    ReactorNotRestartable,
    ReactorNotRunning,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall

from tests.uvreactor.cases import Case, Made, connect


class Mistake(Exception):
    """What a call raises."""


class TimedCases(Case):
    """Timed calls."""

    def test_calls_come_in_the_order_of_their_times(self):
        reactor = self.buildReactor()
        called = []
        for delay in (0.03, 0.01, 0.02, 0.0):
            reactor.callLater(delay, called.append, delay)
        reactor.callLater(0.04, reactor.stop)
        self.runReactor(reactor)
        assert called == [0.0, 0.01, 0.02, 0.03]

    def test_a_call_moves_cancels_and_adds_others(self):
        reactor = self.buildReactor()
        called = []

        def first():
            called.append("first")
            cancelled.cancel()
            sooner.reset(0.001)
            later.delay(0.03)
            reactor.callLater(0, called.append, "added")

        reactor.callLater(0.0, first)
        cancelled = reactor.callLater(0.0, called.append, "cancelled")
        later = reactor.callLater(0.01, called.append, "later")
        sooner = reactor.callLater(50, called.append, "sooner")
        reactor.callLater(0.02, called.append, "between")
        reactor.callLater(0.06, reactor.stop)
        self.runReactor(reactor)
        assert sorted(called[1:3]) == ["added", "sooner"]
        assert [called[0], *called[3:]] == ["first", "between", "later"]
        for call, error in ((cancelled, AlreadyCancelled), (later, AlreadyCalled)):
            with pytest.raises(error):
                call.cancel()
            with pytest.raises(error):
                call.reset(1)
            assert not call.active()

    def test_one_that_raises_holds_up_no_other(self):
        reactor = self.buildReactor()
        called = []

        def mistake():
            raise Mistake

        reactor.callLater(0, mistake)
        reactor.callLater(0, called.append, "other")
        reactor.callLater(0.01, reactor.stop)
        self.runReactor(reactor)
        assert called == ["other"]
        assert len(self.flushLoggedErrors(Mistake)) == 1

    def test_calls_without_delay_leave_time_for_connections(self):
        class Echo(Protocol):
            def dataReceived(self, data):
                self.transport.write(data)

        reactor = self.buildReactor()
        looping = LoopingCall(lambda: None)
        looping.clock = reactor
        looping.start(0)
        port = reactor.listenTCP(0, Made(Echo), interface="127.0.0.1")

        def script():
            with connect(port.getHost().port) as peer:
                for _ in range(20):
                    peer.sendall(b"x")
                    assert peer.recv(1) == b"x"

        self.play(reactor, script)
        looping.stop()

    def test_what_is_known_of_a_call(self):
        reactor = self.buildReactor()
        call = reactor.callLater(1000, lambda: None)
        far = reactor.callLater(10**10, lambda: None)
        assert abs(reactor.seconds() - time.time()) < 1
        assert abs(call.getTime() - time.time() - 1000) < 1
        assert {call, far} <= set(reactor.getDelayedCalls())
        call.reset(2000)
        assert abs(call.getTime() - time.time() - 2000) < 1
        call.cancel()
        far.cancel()
        assert call not in reactor.getDelayedCalls()
        with pytest.raises(AssertionError):
            reactor.callLater(-1, lambda: None)

    def test_many_calls_most_of_them_cancelled(self):
        reactor = self.buildReactor()
        called = []
        calls = [
            reactor.callLater(0.01 + number / 10**6, called.append, number)
            for number in range(5000)
        ]
        for number, call in enumerate(calls):
            if number % 10:
                call.cancel()
        reactor.callLater(0.1, reactor.stop)
        self.runReactor(reactor)
        assert called == list(range(0, 5000, 10))


class ThreadCases(Case):
    """Calls from threads."""

    def test_calls_of_a_thread_come_in_their_order(self):
        reactor = self.buildReactor()
        number, called = 4, []

        def many(name):
            for index in range(1000):
                reactor.callFromThread(called.append, (name, index))
            reactor.callFromThread(end)

        def end():
            called.append("end")
            if called.count("end") == number:
                reactor.stop()

        threads = [threading.Thread(target=many, args=(name,)) for name in range(number)]
        reactor.callWhenRunning(lambda: [thread.start() for thread in threads])
        self.runReactor(reactor)
        for thread in threads:
            thread.join()
        for name in range(number):
            assert [call[1] for call in called if call[0] == name] == list(range(1000))

    def test_one_that_raises_holds_up_no_other(self):
        reactor = self.buildReactor()

        def mistake():
            raise Mistake

        def script():
            reactor.callFromThread(mistake)

        self.play(reactor, script)
        assert len(self.flushLoggedErrors(Mistake)) == 1

    def test_a_call_from_a_thread_wakes_an_idle_reactor(self):
        reactor = self.buildReactor()
        began = time.monotonic()
        timer = threading.Timer(0.05, reactor.callFromThread, (reactor.stop,))
        reactor.callWhenRunning(timer.start)
        self.runReactor(reactor)
        timer.join()
        assert time.monotonic() - began < 5


class EndCases(Case):
    """The end of a reactor."""

    def test_the_end_waits_for_what_is_to_come_before_it(self):
        reactor = self.buildReactor()
        triggered = []

        def before():
            triggered.append("before")
            wait = Deferred()
            reactor.callLater(0.01, wait.callback, None)
            wait.addCallback(lambda _: triggered.append("waited"))
            return wait

        reactor.addSystemEventTrigger("before", "shutdown", before)
        reactor.addSystemEventTrigger("during", "shutdown", triggered.append, "during")
        reactor.addSystemEventTrigger("after", "shutdown", triggered.append, "after")
        reactor.callWhenRunning(reactor.stop)
        self.runReactor(reactor)
        assert triggered == ["before", "waited", "during", "after"]

    def test_it_can_be_stopped_once_and_not_run_again(self):
        reactor = self.buildReactor()
        raised = []

        def stop():
            reactor.stop()
            try:
                reactor.stop()
            except ReactorNotRunning:
                raised.append("not running")

        reactor.callWhenRunning(stop)
        self.runReactor(reactor)
        assert raised == ["not running"]
        with pytest.raises(ReactorNotRestartable):
            reactor.run()

    def test_a_crashed_one_can_be_run_again(self):
        reactor = self.buildReactor()
        reactor.callWhenRunning(reactor.callLater, 0, reactor.crash)
        self.runReactor(reactor)
        reactor.callLater(0, reactor.stop)
        self.runReactor(reactor)

    def ends(self, number):
        self.addCleanup(signal.signal, number, signal.getsignal(number))
        # Twisted leaves a SIGINT alone that a program handles, like a reactor before this one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        reactor = self.buildReactor()
        reactor.callWhenRunning(reactor.callLater, 0.01, os.kill, os.getpid(), number)
        self.runReactor(reactor)

    def test_sigterm_ends_it(self):
        self.ends(signal.SIGTERM)

    def test_sigint_ends_it(self):
        self.ends(signal.SIGINT)

    def test_handlers_of_a_program_are_called(self):
        reactor = self.buildReactor()
        seen = []

        def handle(number, frame):
            seen.append(number)
            reactor.callFromThread(reactor.stop)

        self.addCleanup(signal.signal, signal.SIGUSR2, signal.signal(signal.SIGUSR2, handle))
        reactor.callWhenRunning(reactor.callLater, 0.01, os.kill, os.getpid(), signal.SIGUSR2)
        self.runReactor(reactor)
        assert seen == [signal.SIGUSR2]


for _each in (TimedCases, ThreadCases, EndCases):
    globals().update(_each.makeTestCaseClasses())
