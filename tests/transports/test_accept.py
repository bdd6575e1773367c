"""The accept loop: what it does with each thing that accept may raise."""

import errno
import os

import pytest
from twisted.internet.task import Clock

from netsrv.transports.accept import AT_ONCE, CONNECTION_DEAD, NO_RESOURCES, PAUSE, AcceptLoop


class ReactorClock(Clock):
    """A clock that also remembers who is watched for reading."""

    def __init__(self):
        super().__init__()
        self.readers = set()

    def addReader(self, reader):
        self.readers.add(reader)

    def removeReader(self, reader):
        self.readers.discard(reader)


class Socket:
    """A socket with a script: numbers are errors, anything else is accepted."""

    def __init__(self, *script):
        self.script = list(script)

    def accept(self):
        if not self.script:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        step = self.script.pop(0)
        if isinstance(step, int):
            raise OSError(step, os.strerror(step))
        return step, None


class Connection:
    """A connection that knows whether it was closed."""

    closed = False

    def close(self):
        self.closed = True


class Loop:
    """A started accept loop, and all that it has told."""

    def __init__(self, *script, serve=None):
        self.reactor = ReactorClock()
        self.sock = Socket(*script)
        self.served, self.failed, self.gone = [], [], []
        self.loop = AcceptLoop(
            self.reactor,
            self.sock,
            serve or self.served.append,
            lambda error: self.failed.append(error.errno),
            lambda error: self.gone.append(error.errno),
        )
        self.loop.start()

    @property
    def watching(self):
        """Whether the reactor watches the socket."""
        return self.loop in self.reactor.readers


def test_all_who_wait_are_served():
    """One turn of the reactor takes everyone from the queue."""
    loop = Loop("a", "b", "c")
    loop.loop.doRead()
    assert loop.served == ["a", "b", "c"]
    assert loop.watching


def test_others_get_their_turn_when_many_wait():
    """At most `AT_ONCE` are taken before the reactor is given back."""
    loop = Loop(*(str(number) for number in range(AT_ONCE + 5)))
    loop.loop.doRead()
    assert len(loop.served) == AT_ONCE
    loop.loop.doRead()
    assert len(loop.served) == AT_ONCE + 5


@pytest.mark.parametrize("number", sorted(CONNECTION_DEAD), ids=errno.errorcode.get)
def test_an_error_of_the_connection_is_counted_and_the_next_is_served(number):
    """F18: what comes from a dead connection does not stop the loop."""
    loop = Loop(number, number, "next")
    loop.loop.doRead()
    assert (loop.served, loop.failed, loop.gone) == (["next"], [number, number], [])
    assert loop.watching


@pytest.mark.parametrize("number", sorted(NO_RESOURCES), ids=errno.errorcode.get)
def test_without_resources_accepting_pauses(number):
    """F16, F17: the socket is not watched for `PAUSE` seconds, and then again."""
    loop = Loop(number, "next")
    loop.loop.doRead()
    assert (loop.served, loop.failed, loop.watching) == ([], [number], False)
    loop.reactor.advance(PAUSE / 2)
    assert not loop.watching
    loop.reactor.advance(PAUSE / 2)
    assert loop.watching
    loop.loop.doRead()
    assert loop.served == ["next"]


def test_a_listening_socket_that_is_gone_is_told_once():
    """Any other error ends the loop, and nothing is left in the reactor."""
    loop = Loop(errno.EBADF, "never")
    loop.loop.doRead()
    assert (loop.served, loop.failed, loop.gone) == ([], [], [errno.EBADF])
    assert not loop.watching


def test_stopping_in_the_middle_stops_at_once():
    """Whoever serves a connection can stop the loop, and the next one waits in the queue."""
    served = []

    def serve_one(connection):
        served.append(connection)
        loop.loop.stop()

    loop = Loop("a", "b", serve=serve_one)
    loop.loop.doRead()
    assert (served, loop.sock.script, loop.watching) == (["a"], ["b"], False)
    loop.loop.start()
    assert loop.watching


def test_stopping_during_a_pause_leaves_no_timer():
    """A stopped loop does not come back by itself."""
    loop = Loop(errno.EMFILE)
    loop.loop.doRead()
    loop.loop.stop()
    assert loop.reactor.getDelayedCalls() == []
    assert not loop.watching


@pytest.mark.parametrize(("number", "watching"), [(errno.ENOTCONN, True), (errno.EMFILE, False)])
def test_a_connection_that_cannot_be_served_is_closed(number, watching):
    """A peer that left, or a missing descriptor, costs one connection."""
    connection = Connection()

    def fail(connection):
        raise OSError(number, os.strerror(number))

    loop = Loop(connection, serve=fail)
    loop.loop.doRead()
    assert connection.closed
    assert (loop.failed, loop.gone, loop.watching) == ([number], [], watching)
    loop.loop.stop()
