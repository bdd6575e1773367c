"""The access log: lines of JSON."""

import errno
import json
import os

import pytest
from twisted.logger import Logger, formatEvent

from netsrv.batches import Datagrams
from netsrv.guards.sources import Flow
from netsrv.interfaces import CloseReason, DropReason, ListenerInfo, RejectReason
from netsrv.observers.accesslog import FLUSH_INTERVAL, AccessLog
from netsrv.observers.accesslogfile import AccessLogFile
from tests.doubles import ObservedConnection

LISTENER = ListenerInfo("unix", '/run/a"b\\\n', "echo")
PEER = ("::ffff:192.0.2.1", 40000)


def lines_of(path):
    """Return the lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_connection_is_a_line(tmp_path, clock):
    """It has time, listener, peer, duration, bytes and close reason, all escaped."""
    path = tmp_path / "log"
    times = iter([0.25, 1_792_000_000.999999])
    log = AccessLog(clock, AccessLogFile(str(path)), now=lambda: next(times))
    log.connection_closed(LISTENER, ObservedConnection(5, 7, 1.5, CloseReason.IDLE_TIMEOUT))
    log.connection_refused(LISTENER, 'unix pid 1 "\x1b', RejectReason.ACCESS)
    assert lines_of(path) == []
    clock.advance(FLUSH_INTERVAL)
    assert lines_of(path) == [
        {
            "time": "1970-01-01T00:00:00.250000Z",
            "listener": str(LISTENER),
            "peer": "192.0.2.1:40000",
            "seconds": 1.5,
            "received": 5,
            "sent": 7,
            "ended": "idle_timeout",
        },
        {
            "time": "2026-10-14T17:46:40.999999Z",
            "listener": str(LISTENER),
            "peer": 'unix pid 1 "\x1b',
            "refused": "access",
        },
    ]
    assert "\x1b" not in path.read_text()
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("datagrams", [True, False])
def test_datagrams_are_lines_only_if_asked_for(tmp_path, clock, datagrams):
    """These are received, sent and dropped datagrams."""
    path = tmp_path / "log"
    log = AccessLog(clock, AccessLogFile(str(path)), datagrams, now=lambda: 0.0)
    log.datagrams_received(LISTENER, Datagrams([Flow(PEER)], [5]))
    log.datagrams_sent(LISTENER, Datagrams([Flow(PEER)], [0]))
    log.datagrams_refused(LISTENER, Datagrams([Flow(PEER)], [1]), DropReason.SOURCE_PORT)
    log.close()
    assert clock.getDelayedCalls() == []
    told = [list(each.items())[3] for each in lines_of(path)]
    assert told == [("received", 5), ("sent", 0), ("dropped", "source_port")] * datagrams
    assert all(each["peer"] == "192.0.2.1:40000" for each in lines_of(path))


def test_the_clock_may_be_set_back(tmp_path, clock):
    """F104: a line has the current time of the wall clock."""
    path = tmp_path / "log"
    times = iter([86400.0, 0.0])
    log = AccessLog(clock, AccessLogFile(str(path)), now=lambda: next(times))
    for _ in range(2):
        log.connection_refused(LISTENER, "peer", RejectReason.ACCESS)
    log.close()
    assert [each["time"][:10] for each in lines_of(path)] == ["1970-01-02", "1970-01-01"]


def test_f100_the_log_says_when_lines_begin_to_be_lost_and_when_that_is_over(
    tmp_path, clock, lines
):
    """It logs two lines, for any number of lost lines and any duration."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    log = AccessLog(clock, AccessLogFile(str(path)), now=lambda: 0.0)
    path.unlink()
    folder.rmdir()
    for _ in range(5):
        log.connection_refused(LISTENER, "peer", RejectReason.ACCESS)
        clock.advance(FLUSH_INTERVAL)
    assert lines == [f"access log {path}: No such file or directory; dropped lines are counted"]
    folder.mkdir()
    log.connection_refused(LISTENER, "peer", RejectReason.ACCESS)
    clock.advance(FLUSH_INTERVAL)
    assert lines[1:] == [f"access log {path}: writing again; 5 lines were dropped"]
    assert len(lines_of(path)) == 1
    log.close()


def test_the_path_is_escaped_in_the_log(tmp_path, clock):
    """A control character of the path does not reach the terminal."""
    path = tmp_path / "a\x1b[31m" / "log"
    path.parent.mkdir()
    log = AccessLog(clock, AccessLogFile(str(path)))
    path.unlink()
    path.parent.rename(tmp_path / "moved")
    events = []
    log.file.log = Logger(observer=events.append)
    log.connection_refused(LISTENER, "192.0.2.1:1", RejectReason.ACCESS)
    clock.advance(FLUSH_INTERVAL)
    path.parent.mkdir()
    log.connection_refused(LISTENER, "192.0.2.1:1", RejectReason.ACCESS)
    clock.advance(FLUSH_INTERVAL)
    assert [formatEvent(event).split(":")[0] for event in events] == [
        f"access log {tmp_path}/a\\x1b[31m/log"
    ] * 2
    log.close()


def test_a_file_that_cannot_be_opened_again_is_still_written(tmp_path, clock, lines, monkeypatch):
    """The log says that lines go to the old file, once, and when the new one is open."""
    path = tmp_path / "access.log"
    log = AccessLog(clock, AccessLogFile(str(path)), now=lambda: 0.0)
    old = path.rename(tmp_path / "access.log.1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        log.reopen()
        for _ in range(2):
            log.connection_refused(LISTENER, "peer", RejectReason.ACCESS)
            clock.advance(FLUSH_INTERVAL)
    line = f"access log {path} is not opened again: Permission denied; "
    assert lines == [f"{line}still writing to the old file"]
    assert len(lines_of(old)) == 2
    log.reopen()
    assert lines[1:] == [f"access log {path} is open again"]
    log.close()
    assert (log.file.dropped, lines_of(path)) == (0, [])


def refuse(*arguments):
    """Refuse as a folder does in which the user may not write."""
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
