"""Datagrams are received in batches: the same in every form of the calls."""

import os
from contextlib import ExitStack

import pytest
from zope.interface.verify import verifyObject

from netsrv.datagrams import batched, single
from netsrv.datagrams.batch import BATCH_SIZE
from netsrv.interfaces import DropReason, IDatagramBatch, IDatagrams
from netsrv.services.echo import EchoDatagrams
from tests.datagrams.wires import (
    ALMOST_FULL,
    BATCHES,
    Batched,
    Collect,
    Echo,
    GatedPort,
    MemoryWire,
    Port,
    Wire,
    both_kinds,
    every_form,
    kernel_forms,
    numbered,
)


@every_form
@both_kinds
def test_all_datagrams_come_back_in_order(wire, service):
    """Each returns to its sender with its bytes, empty ones too, and is reported as sent."""
    port = Port(wire, service())
    data = [b"", *numbered(ALMOST_FULL - 3), bytes(1400), bytes(9000)]
    for number, datagram in enumerate(data):
        wire.arrive(datagram, number % 3)
    port.read()
    for number in range(3):
        assert wire.received(number) == data[number::3]
    assert sum(datagrams.count for datagrams in port.sent) == len(data)
    sent = [datagram for datagrams in port.sent for datagram in datagrams]
    assert sent == [(wire.peers[n % 3], len(datagram)) for n, datagram in enumerate(data)]


@kernel_forms
@pytest.mark.parametrize("service", [EchoDatagrams, Echo], ids=["batches", "one by one"])
def test_f27_the_longest_datagram_comes_back_among_others(wire, service):
    """Each buffer of a batch has space for it."""
    data = [b"a", bytes(65_507), b"", os.urandom(65_507), b"z", b"y", b"x"]
    port = Port(wire, service())
    wire.arrive_all(data)
    port.read()
    assert wire.received() == data


@every_form
def test_f26_a_turn_serves_a_batch_at_most(wire):
    """The rest is served in the next turn of the reactor."""
    port = Port(wire, EchoDatagrams())
    data = numbered(BATCH_SIZE + 5)
    wire.arrive_all(data)
    port.read()
    assert wire.received() == data[:BATCH_SIZE]
    port.read()
    assert wire.received() == data[BATCH_SIZE:]


@every_form
@both_kinds
def test_f28_a_truncated_datagram_is_removed_from_its_batch(wire, service):
    """The others are served."""
    port = Port(wire, service(), max_size=10)
    wire.arrive_all([b"before", b"x" * 11, b"x" * 10, b"x" * 12, b"", b"after"])
    port.read()
    assert wire.received() == [b"before", b"x" * 10, b"", b"after"]
    assert port.dropped == [DropReason.TOO_LONG] * 2


@every_form
def test_f28_a_batch_of_truncated_datagrams_is_not_served(wire):
    """Each is reported as dropped."""
    port = Port(wire, EchoDatagrams(), max_size=3)
    wire.arrive_all([b"long", b"longer"])
    port.read()
    assert (wire.received(), port.dropped) == ([], [DropReason.TOO_LONG] * 2)


@every_form
def test_f40_a_protocol_that_raises_is_called_for_the_rest(wire):
    """An exception concerns one datagram; what was sent before it goes out."""

    def fail(transport):
        raise RuntimeError("raised on purpose")

    port = Port(wire, Collect(**{"3": fail}))
    wire.arrive_all(numbered(8))
    port.read()
    assert port.exceptions == [1]
    assert wire.received() == [datagram for datagram in numbered(8) if datagram != b"3"]


@kernel_forms
def test_f40_a_protocol_that_raises_at_a_batch_is_called_for_the_next(form, wire):
    """A datagram that comes alone is served by itself."""

    def fail(batch):
        raise RuntimeError("raised on purpose")

    port = Port(wire, Batched(fail))
    for _ in range(2):
        wire.arrive_all([b"a", b"b"])
        port.read()
    assert port.exceptions == ([1] * 2 if form != "single-first" else [])
    assert port.protocol.sizes == [1] * 4


@every_form
def test_a_batch_that_is_received_during_another_has_buffers_of_its_own(form, wire):
    """A protocol may make its own port, or another, receive, as the end of a server does."""
    other = MemoryWire() if form == "memory" else Wire()
    with ExitStack() as stack:
        stack.callback(other.close)
        other_port = Port(other, EchoDatagrams())

        def receive(transport):
            other.arrive(b"nested")
            other_port.read()
            wire.arrive(b"late")
            transport.doRead()

        port = Port(wire, Collect(**{"2": receive}))
        wire.arrive_all(numbered(8))
        port.read()
        port.read()
        assert other.received() == [b"nested"]
        assert sorted(port.protocol.received) == sorted([*numbered(8), b"late"])
        assert sorted(wire.received()) == sorted([*numbered(8), b"late"])


@every_form
def test_a_batch_is_sent_back_once(wire):
    """A second `send_back` raises, and so does one after the batch is over."""
    kept = []

    def send_twice(batch):
        assert verifyObject(IDatagramBatch, batch)
        batch.send_back()
        with pytest.raises(RuntimeError):
            batch.send_back()
        kept.append(batch)

    port = GatedPort(wire, Batched(send_twice))
    wire.arrive_all([b"a", b"b"])
    port.read()
    assert (wire.received(), port.exceptions) == ([b"a", b"b"], [])
    for batch in kept:
        with pytest.raises(RuntimeError):
            batch.send_back()


@every_form
def test_a_batch_is_over_once_it_was_served(form, wire):
    """A service that keeps one cannot send it later, nor a part of it."""
    kept = []
    port = GatedPort(wire, Batched(kept.append), refused=frozenset({wire.peers[1][1]}))
    for number in range(3):
        wire.arrive_all(numbered(4), number)
        port.read()
    assert kept
    for batch in kept:
        with pytest.raises(RuntimeError):
            batch.send_back()
    assert wire.received() == []


@pytest.mark.parametrize("form", ["batched", "single", "memory"], indirect=True)
def test_observers_may_keep_a_batch(wire):
    """Its peers and sizes stay, though its buffers are used again."""
    port = GatedPort(wire, EchoDatagrams())
    for size in (1, 2):
        wire.arrive_all([bytes(size)] * 3)
        port.read()
    batches = [event[2] for event in port.gate.observer.told]
    assert all(verifyObject(IDatagrams, batch) for batch in batches)
    assert [(batch.count, batch.size) for batch in batches] == [(3, 3), (3, 6)]
    assert [list(batch) for batch in batches] == [[(wire.peers[0], size)] * 3 for size in (1, 2)]


@every_form
def test_a_subclass_that_overrides_one_method_is_called_for_each_datagram(wire):
    """The batch method that it inherits is not called."""

    class Shouting(EchoDatagrams):
        def datagramReceived(self, datagram, addr):
            self.transport.write(datagram.upper(), addr)

    port = GatedPort(wire, Shouting())
    wire.arrive_all([b"a", b"b"])
    port.read()
    assert wire.received() == [b"A", b"B"]


@every_form
@both_kinds
def test_the_flows_that_are_remembered_are_bounded(monkeypatch, wire, service):
    """A flood from forged addresses does not fill the memory; a forgotten peer is served."""
    monkeypatch.setattr(single, "FLOW_CACHE_SIZE", 2)
    monkeypatch.setattr(batched, "FLOW_CACHE_SIZE", 2)
    port = GatedPort(wire, service())
    for number, datagram in enumerate(numbered(30)):
        wire.arrive(datagram, number % 3)
    port.read()
    for number in range(3):
        assert wire.received(number) == numbered(30)[number::3]
    io = port.port._io
    assert len(io._flows) <= 2
    assert len(getattr(io, "_kernel_flows", ())) <= 2


@pytest.mark.skipif(not BATCHES, reason="this system has no recvmmsg")
def test_all_ports_share_the_arrays():
    """A port has no buffers of its own for what it receives."""
    wires = [Wire() for _ in range(3)]
    ports = [Port(wire, EchoDatagrams()) for wire in wires]
    for port in ports:
        port.port._io.prefer_single = 0
    for _ in range(3):
        for wire, port in zip(wires, ports, strict=True):
            wire.arrive_all([b"x", b"y"])
            port.read()
            assert wire.received() == [b"x", b"y"]
    assert len(batched._free_arrays) <= 2  # two, after a batch was received during another
    for wire in wires:
        wire.close()


@pytest.mark.skipif(not BATCHES, reason="this system has no recvmmsg")
def test_after_a_datagram_that_came_alone_single_calls_are_used():
    """A batch of one means little traffic, a larger one means more."""
    wire = Wire()
    port = Port(wire, EchoDatagrams())
    io = port.port._io
    assert io.prefer_single == batched.SINGLE_RUN
    wire.arrive_all(numbered(batched.SINGLE_RUN + 4))
    port.read()
    assert io.prefer_single == 0
    wire.arrive(b"x")
    port.read()
    assert io.prefer_single == batched.SINGLE_RUN
    assert wire.received() == [*numbered(batched.SINGLE_RUN + 4), b"x"]
    wire.close()
