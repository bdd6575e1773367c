"""The log lines about peers, and their rate limit."""

import errno
import os

import pytest
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from netsrv.batches import Datagrams
from netsrv.guards.sources import Flow
from netsrv.interfaces import CloseReason, DropReason, IObserver, ListenerInfo, RejectReason
from netsrv.observers.line_rate import CONNECTION, WINDOW, LineRate
from netsrv.observers.log import LogObserver
from netsrv.observers.peer_log import EndLog, PeerLog

LISTENER = ListenerInfo("tcp", "0.0.0.0:7", "echo")


class PEER:
    """A connection as observers see it."""

    peer = "192.0.2.1:40000"


class Ended(PEER):
    """A connection that has ended."""

    close_reason = CloseReason.PEER
    seconds = 1.5
    received = 3
    sent = 0


def test_it_observes(clock):
    """Each part of the log provides the interface of observers."""
    rate = LineRate(clock, 10)
    for log in (LogObserver(rate), PeerLog(rate, bool), EndLog(rate, bool)):
        assert verifyObject(IObserver, log)


def test_peers_are_shown_in_the_words_of_the_interface(clock, lines):
    """Connections and datagrams have the documented lines."""
    rate = LineRate(clock, 10)
    log, peers = LogObserver(rate), PeerLog(rate, bool)
    peers.connection_made(LISTENER, PEER)
    peers.datagrams_received(LISTENER, Datagrams([Flow(("::ffff:192.0.2.1", 40000))], [0]))
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
    rate.close()


@pytest.mark.parametrize("expected_failures", [["ZeroDivisionError"]])
def test_an_exception_of_a_service_is_logged_with_its_traceback(clock, lines, expected_failures):
    """The traceback shows the service's author where it failed."""
    rate = LineRate(clock, 10)
    log = LogObserver(rate)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.service_failed(LISTENER, "datagramReceived")
    assert lines == ["tcp 0.0.0.0:7 (echo): datagramReceived raised"]
    rate.close()


def test_beyond_the_rate_peers_are_counted_and_summed_up(clock, lines):
    """F103: at most *rate* lines a second are about peers, and one has the total."""
    log = PeerLog(LineRate(clock, 3), bool)
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


def test_a_rate_that_is_raised_holds_at_once(clock, lines):
    """Peers that were only counted before do not use up the new rate."""
    rate = LineRate(clock, 2)
    assert [rate.count_lines(CONNECTION, 10), rate.used_up] == [2, True]
    rate.rate = 5
    assert [rate.count_lines(CONNECTION, 10), rate.used_up] == [3, True]
    rate.close()
    assert lines == ["Suppressed in the last second (--log-rate): 15 connections"]


def test_closing_sums_up_and_leaves_no_timer(clock, lines):
    """Closing logs the counted events."""
    rate = LineRate(clock, 1)
    for _ in range(2):
        PeerLog(rate, bool).connection_made(LISTENER, PEER)
    rate.close()
    rate.close()
    assert lines[1:] == ["Suppressed in the last second (--log-rate): 1 connection"]
    assert clock.getDelayedCalls() == []


def test_of_a_batch_above_the_rate_the_first_are_lines(clock, lines):
    """The rest is counted, in batches or one by one."""
    rate = LineRate(clock, 2)
    log = PeerLog(rate, bool)
    batch = Datagrams([Flow(("192.0.2.1", 40000))] * 64, range(64))
    log.datagrams_received(LISTENER, batch)
    log.datagrams_received(LISTENER, batch)
    LogObserver(rate).datagrams_refused(LISTENER, batch, DropReason.SOURCE_PORT)
    assert len(lines) == 3
    clock.advance(WINDOW)
    assert lines[3:] == [
        "Suppressed in the last second (--log-rate): "
        "126 datagrams, 63 dropped datagrams (source_port)"
    ]


def test_a_datagram_socket_that_fails_is_followed_until_it_is_open_again(clock, lines):
    """The failure, each new reason why it cannot be reopened, and the end of it are lines."""
    log = LogObserver(LineRate(clock, 10))
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
    rate = LineRate(clock, 10)
    log = LogObserver(rate)
    other = ListenerInfo("tcp", "0.0.0.0:7", "echo")
    for listener in (LISTENER, LISTENER, other):
        log.connection_refused(listener, "192.0.2.1:40000", RejectReason.ACCESS)
    line = "tcp 0.0.0.0:7 (echo): rejected 192.0.2.1:40000 (--only-from, --no-access); "
    assert lines == [f"{line}further rejections are counted"] * 2
    log.listener_closed(LISTENER)
    log.connection_refused(LISTENER, "192.0.2.1:40000", RejectReason.ACCESS)
    assert len(lines) == 3
    rate.close()


def test_lines_about_peers_name_the_listener_on_demand(clock, lines):
    """A server with several listeners has them in every line about a peer."""
    rate = LineRate(clock, 10)
    peers, ends = PeerLog(rate, lambda: True), EndLog(rate, lambda: True)
    peers.connection_made(LISTENER, PEER)
    peers.datagrams_received(LISTENER, Datagrams([Flow(("192.0.2.1", 40000))], [5]))
    ends.connection_closed(LISTENER, Ended)
    assert lines == [
        "Got connection from 192.0.2.1:40000 on tcp 0.0.0.0:7 (echo)",
        "Got data from 192.0.2.1:40000 (5 bytes) on tcp 0.0.0.0:7 (echo)",
        "Closed 192.0.2.1:40000 on tcp 0.0.0.0:7 (echo): peer, 1.500 s, 3 B in, 0 B out",
    ]
    rate.close()


def test_the_end_of_a_connection_has_its_values_as_fields(clock):
    """The line is of level debug, and counts for the rate as others do."""
    rate = LineRate(clock, 1)
    ends = EndLog(rate, bool)
    with capturedLogs() as events:
        for _ in range(3):
            ends.connection_closed(LISTENER, Ended)
        rate.close()
    assert [(formatEvent(event), event["log_level"].name) for event in events] == [
        (
            "Closed 192.0.2.1:40000: peer, 1.500 s, 3 B in, 0 B out",
            "debug",
        ),
        ("Suppressed in the last second (--log-rate): 2 ended connections", "info"),
    ]
    assert (events[0]["reason"], events[0]["seconds"], events[0]["received"]) == ("peer", 1.5, 3)


@pytest.mark.parametrize(
    ("kind", "level"),
    [(("connection", ""), "info"), (("rejected connection", " (per_source)"), "warn")],
)
def test_sums_with_a_problem_are_a_warning(kind, level, clock):
    """A log without lines of level info has the sums of rejections and errors."""
    rate = LineRate(clock, 1)
    rate.suppress(("datagram", ""))
    rate.suppress(kind, 2)
    with capturedLogs() as events:
        rate.close()
    assert [event["log_level"].name for event in events] == [level]
