"""The watchdog notices a blocked reactor."""

from twisted.internet.task import Clock

from netsrv.server.watchdog import TICK_INTERVAL, StallDetector


class Machine:
    """A pulse, with the clock of the reactor and the one that never goes back."""

    def __init__(self):
        self.clock = Clock()
        self.now = 100.0
        self.stalls = []
        self.pulse = StallDetector(self.clock, lambda: self.now, self.stalls.append)
        self.pulse.start()

    def pass_by(self, real, shown):
        """Let time go by, as it is and as the clock of the reactor shows it."""
        self.now += real
        self.clock.advance(shown)


def test_f22_a_blocked_reactor_is_told_with_its_seconds():
    """Late beats are stalls, others are not."""
    machine = Machine()
    machine.pass_by(TICK_INTERVAL, TICK_INTERVAL)
    machine.pass_by(TICK_INTERVAL + 0.9, TICK_INTERVAL + 0.9)
    assert machine.stalls == []
    machine.pass_by(TICK_INTERVAL + 5, TICK_INTERVAL + 5)
    machine.pass_by(TICK_INTERVAL, TICK_INTERVAL)
    assert machine.stalls == [5.0]


def test_f104_a_clock_that_is_set_is_no_stall():
    """Setting the clock forward or back is no stall, although the tick then comes late."""
    machine = Machine()
    machine.pass_by(0.5, 86400)
    machine.pass_by(86400, TICK_INTERVAL)
    assert machine.stalls == []


def test_it_stops():
    """No timer is left behind."""
    machine = Machine()
    machine.pulse.stop()
    machine.pulse.stop()
    assert machine.clock.getDelayedCalls() == []
