"""The accept loop: what it does with each thing that accept may raise."""

import errno
import os

import pytest

from netsrv.streams.acceptor import AT_ONCE, LISTENER_GONE, NO_RESOURCES, PAUSE, Acceptor
from tests.doubles import ReactorClock, ScriptedListeningSocket


class Connection:
    """A connection that knows whether it was closed."""

    closed = False

    def close(self):
        self.closed = True


class Loop:
    """A started accept loop, and all that it has told."""

    def __init__(self, *script, serve=None):
        self.reactor = ReactorClock()
        self.sock = ScriptedListeningSocket(*script)
        self.served, self.failed, self.gone = [], [], []
        self.loop = Acceptor(
            self.reactor,
            self.sock,
            lambda connection, sockaddr: (serve or self.served.append)(connection),
            lambda error: self.failed.append(error.errno),
            lambda error: self.gone.append(error.errno),
        )
        self.loop.resume()

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


CONNECTION_DEAD = (
    "ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH ENONET EPROTO ENOPROTOOPT EOPNOTSUPP "
    "ETIMEDOUT ECONNABORTED EPERM ENOSR EPROTONOSUPPORT"
).split()
"""What comes from a connection that failed before it was accepted (accept(2))."""


@pytest.mark.parametrize("number", [getattr(errno, each) for each in CONNECTION_DEAD])
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


def test_an_error_that_does_not_end_does_not_spin():
    """When a whole turn of the reactor brings errors alone, the next one waits for `PAUSE`."""
    loop = Loop(*[errno.EPERM] * (AT_ONCE + 1), "next")
    loop.loop.doRead()
    assert (len(loop.failed), loop.watching) == (AT_ONCE, False)
    loop.reactor.advance(PAUSE)
    loop.loop.doRead()
    assert (loop.served, loop.watching) == (["next"], True)


@pytest.mark.parametrize("number", sorted(LISTENER_GONE), ids=errno.errorcode.get)
def test_a_listening_socket_that_is_gone_is_told_once(number):
    """An error of the listening socket ends the loop, and nothing is left in the reactor."""
    loop = Loop(number, "never")
    loop.loop.doRead()
    assert (loop.served, loop.failed, loop.gone) == ([], [], [number])
    assert not loop.watching


def test_finishing_takes_in_all_who_wait():
    """At the end the whole queue is served, however long, and then nobody any more."""
    everyone = [str(number) for number in range(3 * AT_ONCE + 5)]
    loop = Loop(*everyone)
    loop.loop.drain()
    assert loop.served == everyone
    assert not loop.watching


def test_stopping_in_the_middle_stops_at_once():
    """Whoever serves a connection can stop the loop, and the next one waits in the queue."""
    served = []

    def serve_one(connection):
        served.append(connection)
        loop.loop.suspend()

    loop = Loop("a", "b", serve=serve_one)
    loop.loop.doRead()
    assert (served, loop.sock.script, loop.watching) == (["a"], ["b"], False)
    loop.loop.resume()
    assert loop.watching


def test_stopping_during_a_pause_leaves_no_timer():
    """A stopped loop does not come back by itself."""
    loop = Loop(errno.EMFILE)
    loop.loop.doRead()
    loop.loop.suspend()
    assert loop.reactor.getDelayedCalls() == []
    assert not loop.watching


def test_a_connection_whose_peer_has_left_is_closed():
    """An error of one connection costs that connection, and the next one is served."""
    connection = Connection()

    def fail(connection):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    loop = Loop(connection, serve=fail)
    loop.loop.doRead()
    assert connection.closed
    assert (loop.failed, loop.gone, loop.watching) == ([errno.ENOTCONN], [], True)


def test_a_connection_without_a_descriptor_is_held_until_there_is_one():
    """F16: who was accepted when the descriptors ran out is served first after the pause."""
    served = []
    missing = [errno.EMFILE, errno.EMFILE]

    def serve(connection):
        if missing:
            number = missing.pop()
            raise OSError(number, os.strerror(number))
        served.append(connection)

    held = Connection()
    loop = Loop(held, "next", serve=serve)
    loop.loop.doRead()
    assert (served, loop.watching) == ([], False)
    loop.reactor.advance(PAUSE)
    assert (served, loop.watching) == ([], False)
    loop.reactor.advance(PAUSE)
    assert served == [held, "next"]
    assert not held.closed
    assert loop.failed == [errno.EMFILE] * 2


def test_a_held_connection_is_closed_at_the_end_if_there_is_still_no_descriptor():
    """Nothing that was accepted is forgotten open."""

    def fail(connection):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    held = Connection()
    loop = Loop(held, serve=fail)
    loop.loop.doRead()
    loop.loop.drain()
    assert held.closed
    assert loop.reactor.getDelayedCalls() == []
