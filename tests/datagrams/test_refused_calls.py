"""Where the calls for many datagrams are refused, and where memory runs out."""

import ctypes
import errno
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netsrv.datagrams import batched, libc, mmsg
from netsrv.datagrams.port import RETRY_DELAY
from netsrv.interfaces import DropReason
from netsrv.services.echo import EchoDatagrams
from tests.datagrams.wires import BATCHES, Batched, Collect, Port, both_kinds, every_form, numbered

needs_batches = pytest.mark.skipif(not BATCHES, reason="this system has no recvmmsg")
batched_forms = pytest.mark.parametrize("form", ["batched", "single-first"], indirect=True)
refusals = pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EACCES", "EOPNOTSUPP"])


def refusing(error, after=0, call=None):
    """Return a system call that is refused after *after* datagrams; *call* handles these."""

    def refused(descriptor, headers, count, *more):
        nonlocal after
        if after:
            done = call(descriptor, headers, min(after, count), *more)
            after -= max(done, 0)
            return done
        ctypes.set_errno(error)
        return -1

    return refused


@needs_batches
@batched_forms
@both_kinds
@refusals
def test_f142_where_recvmmsg_is_refused_single_calls_receive(monkeypatch, wire, service, error):
    """No datagram is lost, and nothing is reported."""
    monkeypatch.setattr(mmsg, "_receive", refusing(getattr(errno, error)))
    port = Port(wire, service())
    for _ in range(3):
        wire.arrive_all(numbered(100))
        for _ in range(3):
            port.read()
        assert wire.received() == numbered(100)
    assert (port.dropped, port.exceptions) == ([], [])


@needs_batches
@batched_forms
@both_kinds
@refusals
def test_f142_where_sendmmsg_is_refused_single_calls_send(monkeypatch, wire, service, error):
    """Each datagram is sent once, in order."""
    monkeypatch.setattr(mmsg, "_send", refusing(getattr(errno, error)))
    port = Port(wire, service())
    for _ in range(3):
        wire.arrive_all(numbered(50))
        for _ in range(3):
            port.read()
        assert wire.received() == numbered(50)
    assert (port.dropped, sum(sent.count for sent in port.sent)) == ([], 150)


@needs_batches
@pytest.mark.parametrize("form", ["batched"], indirect=True)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(after=st.integers(0, 60), count=st.integers(1, 60), part=st.booleans())
def test_f142_a_refusal_in_the_middle_of_a_batch_loses_nothing(
    monkeypatch, wire, after, count, part
):
    """The datagrams before it are not sent twice; this holds for a part of a batch too."""
    call = mmsg._send

    def serve(batch):
        batch.only(range(0, batch.count, 2) if part else range(batch.count)).send_back()

    with monkeypatch.context() as patch:
        patch.setattr(mmsg, "_send", refusing(errno.EPERM, after, call))
        port = Port(wire, Batched(serve))
        wire.arrive_all(numbered(count))
        port.read()
        assert wire.received() == numbered(count)[:: 2 if part else 1]
        assert port.dropped == []
        port.port.detach()


@needs_batches
@pytest.mark.parametrize("form", ["batched"], indirect=True)
def test_f142_an_error_of_one_datagram_is_no_refusal(monkeypatch, wire):
    """A packet filter refuses datagrams with EPERM; the others are still sent together."""
    calls = []
    call = mmsg._send

    def filtered(descriptor, start, count, flags):
        calls.append(count)
        if count == 8:
            ctypes.set_errno(errno.EPERM)
            return -1
        return call(descriptor, start, count, flags)

    def send_one(sock, packet, flow):
        raise PermissionError(errno.EPERM, "dropped by a rule")

    monkeypatch.setattr(mmsg, "_send", filtered)
    monkeypatch.setattr(batched.single, "send_one", send_one)
    port = Port(wire, EchoDatagrams())
    wire.arrive_all(numbered(8))
    port.read()
    assert wire.received() == numbered(8)[1:]
    assert (port.dropped, calls) == ([(DropReason.SEND_ERROR, "EPERM")], [8, 7])


def test_f142_without_ctypes_there_is_no_library(monkeypatch):
    """An import that fails is no error; then the calls for many are not used."""

    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr(libc, "import_module", fail)
    monkeypatch.setattr(libc, "ctypes", libc._import_ctypes())
    monkeypatch.setattr(mmsg, "library", libc.library.__wrapped__)
    assert mmsg._functions() == (None, None)


class Short(socket.socket):
    """A socket for which there is no memory, so many times in receiving and in sending."""

    receiving = sending = 0

    def fail(self, name):
        """Raise MemoryError if it is time."""
        left = getattr(self, name)
        if left:
            setattr(self, name, left - 1)
            raise MemoryError

    def recvfrom(self, *arguments):
        self.fail("receiving")
        return super().recvfrom(*arguments)

    def recvmsg(self, *arguments):
        self.fail("receiving")
        return super().recvmsg(*arguments)

    def sendto(self, *arguments):
        self.fail("sending")
        return super().sendto(*arguments)


class ShortArrays(mmsg.RecvArrays):
    """Arrays for which there is no memory."""

    left = 0

    def receive(self, *arguments):
        if ShortArrays.left:
            ShortArrays.left -= 1
            raise MemoryError
        return super().receive(*arguments)


def make_short(monkeypatch, wire, form, receiving=0, sending=0):
    """Let memory run out at the socket of a wire."""
    if form == "memory":
        sock, failing = wire.sock, Short(socket.AF_INET, socket.SOCK_DGRAM)
        for name in ("recvmsg", "sendto"):
            call = getattr(sock, name)
            counter = "receiving" if name == "recvmsg" else "sending"
            short = lambda *arguments, call=call, counter=counter: (  # noqa: E731
                failing.fail(counter),
                call(*arguments),
            )[1]
            monkeypatch.setattr(sock, name, short)
        failing.close()
    else:
        failing = wire.sock = Short(fileno=wire.sock.detach())
    if form == "batched":
        monkeypatch.setattr(batched, "_free_arrays", [ShortArrays()])
        ShortArrays.left, receiving = receiving, 0
    failing.receiving, failing.sending = receiving, sending


@every_form
def test_f136_without_memory_receiving_pauses(monkeypatch, wire, form):
    """It is counted like ENOMEM, once a pause; no datagram is lost, and no exception reported."""
    make_short(monkeypatch, wire, form, receiving=3)
    port = Port(wire, EchoDatagrams())
    wire.arrive_all(numbered(8))
    for count in range(1, 4):
        port.read()
        assert port.dropped == [(DropReason.RECEIVE_ERROR, "ENOMEM")] * count
        assert port.port not in port.reactor.readers
        port.reactor.advance(RETRY_DELAY)
        assert port.port in port.reactor.readers
    port.read()
    assert wire.received() == numbered(8)
    assert port.exceptions == []


@every_form
def test_f136_what_was_received_before_memory_ran_out_is_served(monkeypatch, wire, form):
    """The error is reported by the next call."""
    port = Port(wire, Collect())
    wire.arrive_all(numbered(2))
    port.read()
    make_short(monkeypatch, wire, form, receiving=1)
    port = Port(wire, Collect())
    wire.arrive_all(numbered(4))
    port.read()
    port.reactor.advance(RETRY_DELAY)
    port.read()
    assert wire.received() == numbered(2) + numbered(4)
    assert port.dropped == [(DropReason.RECEIVE_ERROR, "ENOMEM")]


@pytest.mark.parametrize("form", ["single-first", "single", "memory"], indirect=True)
def test_f136_a_packet_without_memory_is_dropped(monkeypatch, wire, form):
    """It is counted like ENOMEM; the next one is sent."""
    make_short(monkeypatch, wire, form, sending=2)
    port = Port(wire, Collect())
    wire.arrive_all(numbered(4))
    port.read()
    assert wire.received() == numbered(4)[2:]
    assert (port.dropped, port.exceptions) == ([(DropReason.SEND_ERROR, "ENOMEM")] * 2, [])


@needs_batches
@pytest.mark.parametrize("form", ["batched"], indirect=True)
@both_kinds
def test_f136_a_batch_that_cannot_be_prepared_is_sent_by_single_calls(monkeypatch, wire, service):
    """Single calls need less memory."""

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(mmsg.Headers, "set_control", fail)
    monkeypatch.setattr(mmsg.SendArrays, "headers_for", fail)
    monkeypatch.setattr(mmsg.RecvArrays, "headers_back", fail)
    port = Port(wire, service())
    wire.arrive_all(numbered(8))
    port.read()
    assert wire.received() == numbered(8)
    assert (port.dropped, port.exceptions) == ([], [])
