"""The record of what a server was sent: complete within its bounds, and honest beyond them."""

from types import SimpleNamespace
from typing import Any

import pytest

from netsrv import recording
from netsrv.interfaces import Ending
from netsrv.recording import Record, Recorder


class FakeConnection:
    """What the gate shows observers, and the method that the reactor calls."""

    def __init__(self, peer: str = "127.0.0.1:40000") -> None:
        self.peer = peer
        self.received = self.sent = 0
        self.ending = Ending.PEER
        self.heard: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        self.heard.append(data)


@pytest.fixture
def events() -> list[str]:
    """Give what the recorder has told so far."""
    return []


@pytest.fixture
def recorder(events: list[str]) -> Recorder:
    """Give a recorder that has seen nothing yet."""
    return Recorder(lambda: events.append("changed"))


def enter(recorder: Recorder) -> Any:
    """Have one more connection, and give it."""
    connection = FakeConnection()
    recorder.connection_made("here", connection)
    return connection


def test_bytes_are_remembered_and_go_on_to_the_connection(recorder, events):
    """Each connection has its own bytes, and the connection gets what it would get anyway."""
    first, second = enter(recorder), enter(recorder)
    first.dataReceived(b"one")
    second.dataReceived(b"two")
    first.dataReceived(b"three")
    assert first.heard == [b"one", b"three"]
    seen = recorder.records["here"].connections
    assert [bytes(each.data) for each in seen] == [b"onethree", b"two"]
    assert len(events) == 5
    assert not recorder.records["here"].cut


def test_a_connections_bytes_are_bounded(recorder, monkeypatch):
    """Beyond the bound bytes are counted and not kept, and the record says so."""
    monkeypatch.setattr(recording, "MOST_BYTES", 4)
    connection = enter(recorder)
    connection.dataReceived(b"1234")
    assert not recorder.records["here"].cut
    connection.dataReceived(b"5")
    connection.dataReceived(b"6")
    record = recorder.records["here"]
    record.connections[0].look()
    assert (bytes(record.connections[0].data), record.connections[0].received) == (b"1234", 6)
    assert record.cut


def test_the_number_of_connections_is_bounded(recorder, events, monkeypatch):
    """Beyond the bound connections are counted only; what they send is still news."""
    monkeypatch.setattr(recording, "MOST_CONNECTIONS", 2)
    for _ in range(2):
        enter(recorder)
    record = recorder.records["here"]
    assert not record.cut
    last = enter(recorder)
    before = len(events)
    last.dataReceived(b"x")
    recorder.connection_closed("here", last)
    assert (record.count, len(record.connections), record.cut) == (3, 2, True)
    assert len(events) == before + 2


def test_what_has_ended_is_let_go(recorder):
    """Of a connection that has ended its counts and its ending stay, and not itself."""
    connection = enter(recorder)
    connection.dataReceived(b"bye")
    connection.sent = 7
    recorder.connection_closed("here", connection)
    [seen] = recorder.records["here"].connections
    assert (seen.received, seen.sent, seen.ending) == (3, 7, "peer")
    assert seen.connection is None
    assert "dataReceived" not in vars(connection)


@pytest.mark.parametrize(("bound", "value"), [("MOST_DATAGRAMS", 2), ("MOST_DATAGRAM_BYTES", 2)])
def test_datagrams_are_bounded(bound, value, recorder, monkeypatch):
    """Beyond either bound datagrams are counted only, and the record says so."""
    monkeypatch.setattr(recording, bound, value)
    record = Record()
    for datagram in (b"a", b"b", b"c"):
        assert not record.cut
        recorder._datagram(record, datagram)
    assert (record.count, record.datagrams, record.cut) == (3, [b"a", b"b"], True)


def test_a_datagram_service_is_called_as_without_us(recorder):
    """Of what a port calls, nothing is kept from the service."""
    calls: list[tuple[Any, ...]] = []

    def noting(name: str) -> Any:
        return lambda *arguments: calls.append((name, *arguments))

    names = ["makeConnection", "datagramReceived", "connectionRefused", "doStop"]
    service = SimpleNamespace(**{name: noting(name) for name in names})
    wrapped = recording._RecordedDatagrams(service, lambda data: calls.append(("told", data)))
    wrapped.makeConnection("port")
    wrapped.datagramReceived(b"x", ("127.0.0.1", 7))
    wrapped.connectionRefused()
    wrapped.doStop()
    assert calls == [
        ("makeConnection", "port"),
        ("told", b"x"),
        ("datagramReceived", b"x", ("127.0.0.1", 7)),
        ("connectionRefused",),
        ("doStop",),
    ]
