"""The log lines about peers, and their bound."""

import errno
import os

import pytest
from zope.interface.verify import verifyObject

from netsrv.batches import Datagrams
from netsrv.guards.sources import Flow
from netsrv.interfaces import DropReason, IObserver
from netsrv.observers.log import WINDOW, LogObserver

LISTENER = "tcp 0.0.0.0:7 (echo)"


class PEER:
    """A connection as observers see it."""

    peer = "192.0.2.1:40000"


def test_it_observes(clock):
    """The log is an observer like any other."""
    assert verifyObject(IObserver, LogObserver(clock, 10))


def test_peers_are_shown_in_the_words_of_the_interface(clock, lines):
    """A connection and a datagram each make the line that users look for."""
    log = LogObserver(clock, 10)
    log.connection_made(LISTENER, PEER)
    log.datagrams_received(LISTENER, Datagrams([Flow(("::ffff:192.0.2.1", 40000))], [0]))
    log.datagram_dropped(LISTENER, DropReason.SEND_ERROR, OSError(errno.EPERM, "no"))
    log.datagram_dropped(LISTENER, DropReason.TOO_LONG, None)
    log.accept_failed(LISTENER, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    log.listener_failed(LISTENER, OSError(errno.EBADF, os.strerror(errno.EBADF)))
    assert lines == [
        "Got connection from 192.0.2.1:40000",
        "Got data from 192.0.2.1:40000 (0 bytes)",
        "tcp 0.0.0.0:7 (echo): dropped a datagram: send EPERM",
        "tcp 0.0.0.0:7 (echo): dropped a datagram: too long",
        "tcp 0.0.0.0:7 (echo): accept: Too many open files; from now on such errors are counted",
        "tcp 0.0.0.0:7 (echo): the listening socket failed: Bad file descriptor; "
        "nobody is accepted there any more",
    ]
    log.close()


@pytest.mark.parametrize("expected_failures", [["ZeroDivisionError"]])
def test_an_exception_of_a_service_is_logged_with_its_traceback(clock, lines, expected_failures):
    """Who wrote the service finds out where it failed."""
    log = LogObserver(clock, 10)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.service_failed(LISTENER, "datagramReceived")
    assert lines == ["tcp 0.0.0.0:7 (echo): datagramReceived raised"]
    log.close()


def test_beyond_the_rate_peers_are_counted_and_summed_up(clock, lines):
    """F103: at most *rate* lines a second about peers, and one line with the sum."""
    log = LogObserver(clock, 3)
    for _ in range(5):
        log.connection_made(LISTENER, PEER)
    log.datagrams_received(LISTENER, Datagrams([Flow(("192.0.2.1", 40000))] * 4, range(4)))
    assert len(lines) == 3
    clock.advance(WINDOW)
    assert lines[3:] == ["In a second, without a line each: 2 connections, 4 datagrams"]
    log.connection_made(LISTENER, PEER)
    assert len(lines) == 5
    clock.advance(WINDOW)
    assert len(lines) == 5
    assert clock.getDelayedCalls() == []


def test_closing_sums_up_and_leaves_no_timer(clock, lines):
    """What was counted is not lost at the end."""
    log = LogObserver(clock, 0)
    log.connection_made(LISTENER, PEER)
    log.close()
    log.close()
    assert lines == ["In a second, without a line each: 1 connections"]
    assert clock.getDelayedCalls() == []


def test_of_a_batch_above_the_rate_the_first_are_lines(clock, lines):
    """The rest is a number, whichever way datagrams come."""
    log = LogObserver(clock, 2)
    batch = Datagrams([Flow(("192.0.2.1", 40000))] * 64, range(64))
    log.datagrams_received(LISTENER, batch)
    log.datagrams_received(LISTENER, batch)
    log.datagrams_refused(LISTENER, batch, DropReason.SOURCE_PORT)
    assert len(lines) == 3
    clock.advance(WINDOW)
    assert lines[3:] == [
        "In a second, without a line each: 126 datagrams, 63 datagrams dropped (source_port)"
    ]
