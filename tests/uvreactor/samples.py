"""Cases that test the judge."""

import time

from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.logger import Logger
from twisted.trial.unittest import SkipTest


class SampleTests(ReactorBuilder):
    """One case of every kind."""

    def test_passes(self):
        reactor = self.buildReactor()
        reactor.callWhenRunning(reactor.stop)
        self.runReactor(reactor)

    def test_fails(self):
        assert self.buildReactor().getDelayedCalls()

    def test_is_skipped(self):
        raise SkipTest("for a reason")

    def test_logs_an_error(self):
        reactor = self.buildReactor()
        reactor.callWhenRunning(self.log_an_error)
        reactor.callLater(0, reactor.stop)
        self.runReactor(reactor)

    def log_an_error(self):
        try:
            raise ValueError("unseen")
        except ValueError:
            Logger().failure("an error")


class HangingTests(ReactorBuilder):
    """A case that keeps its reactor from ever running out of time."""

    def test_hangs(self):
        reactor = self.buildReactor()
        reactor.callWhenRunning(time.sleep, 3600)
        self.runReactor(reactor)


globals().update(SampleTests.makeTestCaseClasses())
globals().update(HangingTests.makeTestCaseClasses())
