"""The log lines about peers, and their rate limit."""

import errno
import os

import pytest
from zope.interface.verify import verifyObject

from netsrv.batches import Datagrams
from netsrv.guards.sources import Flow
from netsrv.interfaces import DropReason, IObserver, ListenerInfo, RejectReason
from netsrv.observers.log import WINDOW, LogObserver

LISTENER = ListenerInfo("tcp", "0.0.0.0:7", "echo")


class PEER:
    """A connection as observers see it."""

    peer = "192.0.2.1:40000"


def test_it_observes(clock):
    """LogObserver provides the interface of observers."""
    assert verifyObject(IObserver, LogObserver(clock, 10))


def test_peers_are_shown_in_the_words_of_the_interface(clock, lines):
    """Connections and datagrams have the documented lines."""
    log = LogObserver(clock, 10)
    log.connection_made(LISTENER, PEER)
    log.datagrams_received(LISTENER, Datagrams([Flow(("::ffff:192.0.2.1", 40000))], [0]))
    log.datagram_dropped(LISTENER, DropReason.SEND_ERROR, OSError(errno.EPERM, "no"))
    log.datagram_dropped(LISTENER, DropReason.TOO_LONG, None)
    log.accept_failed(LISTENER, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    log.listener_failed(LISTENER, OSError(errno.EBADF, os.strerror(errno.EBADF)), False)
    assert lines == [
        "Got connection from 192.0.2.1:40000",
        "Got data from 192.0.2.1:40000 (0 bytes)",
        "tcp 0.0.0.0:7 (echo): dropped a datagram: send EPERM",
        "tcp 0.0.0.0:7 (echo): dropped a datagram: too long",
        "tcp 0.0.0.0:7 (echo): accept failed: Too many open files; further errors are counted",
        "tcp 0.0.0.0:7 (echo): the listening socket failed: Bad file descriptor; "
        "no more connections are accepted",
    ]
    log.close()


@pytest.mark.parametrize("expected_failures", [["ZeroDivisionError"]])
def test_an_exception_of_a_service_is_logged_with_its_traceback(clock, lines, expected_failures):
    """The traceback shows the service's author where it failed."""
    log = LogObserver(clock, 10)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.service_failed(LISTENER, "datagramReceived")
    assert lines == ["tcp 0.0.0.0:7 (echo): datagramReceived raised"]
    log.close()


def test_beyond_the_rate_peers_are_counted_and_summed_up(clock, lines):
    """F103: at most *rate* lines a second are about peers, and one has the total."""
    log = LogObserver(clock, 3)
    for _ in range(5):
        log.connection_made(LISTENER, PEER)
    log.datagrams_received(LISTENER, Datagrams([Flow(("192.0.2.1", 40000))] * 4, range(4)))
    assert len(lines) == 3
    clock.advance(WINDOW)
    assert lines[3:] == ["Suppressed in the last second (--log-rate): 2 connections, 4 datagrams"]
    log.connection_made(LISTENER, PEER)
    assert len(lines) == 5
    clock.advance(WINDOW)
    assert len(lines) == 5
    assert clock.getDelayedCalls() == []


def test_closing_sums_up_and_leaves_no_timer(clock, lines):
    """Closing logs the counted events."""
    log = LogObserver(clock, 0)
    log.connection_made(LISTENER, PEER)
    log.close()
    log.close()
    assert lines == ["Suppressed in the last second (--log-rate): 1 connection"]
    assert clock.getDelayedCalls() == []


def test_of_a_batch_above_the_rate_the_first_are_lines(clock, lines):
    """The rest is counted, in batches or one by one."""
    log = LogObserver(clock, 2)
    batch = Datagrams([Flow(("192.0.2.1", 40000))] * 64, range(64))
    log.datagrams_received(LISTENER, batch)
    log.datagrams_received(LISTENER, batch)
    log.datagrams_refused(LISTENER, batch, DropReason.SOURCE_PORT)
    assert len(lines) == 3
    clock.advance(WINDOW)
    assert lines[3:] == [
        "Suppressed in the last second (--log-rate): "
        "126 datagrams, 63 dropped datagrams (source_port)"
    ]


def test_a_datagram_socket_that_fails_is_followed_until_it_is_open_again(clock, lines):
    """The failure, each new reason why it cannot be reopened, and the end of it are lines."""
    log = LogObserver(clock, 10)
    log.listener_failed(LISTENER, OSError(errno.EBADF, os.strerror(errno.EBADF)), True)
    log.listener_reopen_failed(LISTENER, "udp 0.0.0.0:7: Address already in use")
    log.listener_reopened(LISTENER)
    assert lines == [
        "tcp 0.0.0.0:7 (echo): the socket failed: Bad file descriptor; reopening it",
        "tcp 0.0.0.0:7 (echo): cannot reopen the socket: udp 0.0.0.0:7: Address already in use; "
        "retrying every second",
        "tcp 0.0.0.0:7 (echo): the socket is open again",
    ]


def test_the_first_rejection_of_each_listener_is_a_line(clock, lines):
    """A listener that is closed is forgotten, so that the table stays bounded."""
    log = LogObserver(clock, 10)
    other = ListenerInfo("tcp", "0.0.0.0:7", "echo")
    for listener in (LISTENER, LISTENER, other):
        log.connection_refused(listener, "192.0.2.1:40000", RejectReason.ACCESS)
    line = "tcp 0.0.0.0:7 (echo): rejected 192.0.2.1:40000 (--only-from, --no-access); "
    assert lines == [f"{line}further rejections are counted"] * 2
    log.listener_closed(LISTENER)
    log.connection_refused(LISTENER, "192.0.2.1:40000", RejectReason.ACCESS)
    assert len(lines) == 3
    log.close()
