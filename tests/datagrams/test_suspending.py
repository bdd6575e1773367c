"""A protocol suspends or stops its port in the middle of a batch."""

from netsrv.interfaces import DropReason
from tests.datagrams.wires import Collect, Port, every_form, numbered


@every_form
def test_after_a_suspend_the_rest_of_a_batch_is_served_at_resume(wire):
    """No datagram is lost or served twice, and the order is kept."""
    port = Port(wire, Collect(**{"2": lambda transport: transport.suspend()}))
    data = numbered(8)
    wire.arrive_all(data)
    port.read()
    assert port.protocol.received == data[:3]
    port.read()
    assert port.protocol.received == data[:3]
    assert wire.received() == data[:3]
    wire.arrive(b"later")
    port.port.resume()
    port.reactor.advance(0)
    port.read()
    assert port.protocol.received == [*data, b"later"]
    assert wire.received() == [*data[3:], b"later"]
    assert port.port in port.reactor.readers


@every_form
def test_a_suspend_for_a_moment_loses_nothing(wire):
    """A pending datagram does not wait for the next one to come."""

    def suspend_and_resume(transport):
        transport.suspend()
        transport.resume()

    port = Port(wire, Collect(**{"2": suspend_and_resume}))
    wire.arrive_all(numbered(8))
    port.read()
    assert port.protocol.received == numbered(8)
    port.port.suspend()
    assert port.reactor.getDelayedCalls() == []


@every_form
def test_after_a_stop_the_rest_of_a_batch_is_dropped(form, wire):
    """What was sent before goes out; what was received and not served is reported."""
    port = Port(wire, Collect(**{"2": lambda transport: transport.stopListening()}))
    wire.arrive_all(numbered(8))
    port.read()
    assert port.protocol.received == numbered(3)
    assert wire.received() == numbered(2)
    assert wire.sock.fileno() == -1
    assert port.dropped == ([DropReason.STOPPED] * 5 if form != "single-first" else [])
    assert port.exceptions == [1]  # its transport is None, as everywhere in Twisted
    assert port.reactor.getDelayedCalls() == []


@every_form
def test_a_stop_while_suspended_drops_the_pending_datagrams(form, wire):
    """Each is reported."""
    port = Port(wire, Collect(**{"2": lambda transport: transport.suspend()}))
    wire.arrive_all(numbered(8))
    port.read()
    port.port.stopListening()
    assert port.dropped == ([DropReason.STOPPED] * 5 if form != "single-first" else [])
    assert port.reactor.getDelayedCalls() == []
