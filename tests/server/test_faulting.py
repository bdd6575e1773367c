"""Faults of a running listener: on every service, from its first connection on, and at any time."""

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import formatEvent, globalLogPublisher

from netsrv.config.fault_reading import read_fault
from netsrv.config.keywords import listener
from netsrv.faults.connection import FaultyConnection
from netsrv.services.echo import EchoStream
from netsrv.streams.connection import Connection
from netsrv.testing.servers import MemoryServer


def serve(service, *faults, transport=None, **keywords):
    """Serve with faults, which are tables as in a file."""
    return MemoryServer(service, transport, fault=list(faults), **keywords)


def table(server):
    """Return the faults of the only listener."""
    return server.server.listeners[0].faults


def fault(**values):
    """Return the settings of a fault of streams."""
    return read_fault(values).settings(True)


@pytest.mark.parametrize("service", ["daytime", "qotd", "info"])
def test_a_fault_of_the_file_hits_the_first_connection_of_any_service(service):
    """Also of those that are served in the accept loop otherwise."""
    server = serve(service, {"type": "latency", "latency": 1000})
    client = server.connect()
    server.advance(0.9)
    assert (client.received, client.close_kind) == (b"", None)
    server.advance(0.1)
    assert client.received
    assert client.close_kind == "closed"


def test_a_service_that_never_stops_does_not_stop_the_server():
    """What it produces is dropped, with pauses."""
    server = serve("chargen", {"type": "timeout", "timeout": 0})
    server.connect()
    server.advance(0.1)
    assert 65_536 < server.info()["listeners"][0]["counts"]["sent_bytes"] < 4 * 10**6


@pytest.mark.parametrize("service", ["daytime", "accept", "echo"])
def test_a_timeout_swallows_all_and_closes(service):
    """At once where the service closes, as toxiproxy does when either side closes."""
    server = serve(service, {"type": "timeout", "timeout": 2000})
    client = server.connect()
    client.send(b"x")
    server.advance(2.1)
    assert (client.received, client.close_kind) == (b"", "closed")
    assert server.counts.closed == {"fault": 1}


def test_a_programs_own_factory_has_faults_too():
    """Between its protocol and the peer."""

    class Upper(Protocol):
        def dataReceived(self, data):
            self.transport.write(data.upper())

    server = serve(Factory.forProtocol(Upper), {"type": "latency", "latency": 100})
    client = server.connect()
    client.send(b"x")
    assert client.received == b""
    server.advance(0.1)
    assert client.received == b"X"


def test_faults_come_and_go_on_live_connections():
    """Nothing is lost, and afterwards the connection is as it was."""
    server = serve("echo")
    client = server.connect()
    client.send(b"a")
    [connection] = server.server.listeners[0].gate.connections
    transport = connection.transport
    table(server).add(fault(type="latency", latency=1000))
    client.send(b"b")
    assert client.received == b"a"
    assert isinstance(connection.transport, FaultyConnection)
    table(server).remove("latency_downstream")
    server.settle()
    client.send(b"c")
    assert client.received == b"abc"
    assert connection.transport is transport
    assert transport.protocol is connection
    assert not table(server).targets
    client.end()
    assert client.close_kind == "closed"


def test_without_faults_the_objects_on_the_path_are_those_without_the_feature():
    """Off is off."""
    server = serve("echo")
    server.connect()
    table(server).add(fault(type="noop"))
    table(server).remove("noop_downstream")
    server.connect()
    for connection in server.server.listeners[0].gate.connections:
        assert type(connection) is Connection
        assert type(connection.protocol) is EchoStream
        assert type(connection.transport.protocol) is Connection


@pytest.mark.parametrize(("how", "kind"), [("close", "closed"), ("reset", "reset")])
def test_refuse_ends_new_connections(how, kind):
    """The first two, here; they are counted, and take no slot."""
    server = serve("echo", {"type": "refuse", "how": how, "first": 2})
    assert [server.connect().close_kind for _ in range(4)] == [kind, kind, None, None]
    assert server.counts.refused["fault"] == 2
    assert server.connections == 2


def test_refuse_may_leave_peers_in_the_backlog():
    """They are served once the fault is removed, and not before, whatever the owner does."""
    server = serve("echo", {"type": "refuse", "how": "stall", "name": "r"})
    client = server.connect()
    client.send(b"x")
    server.server.suspend()
    server.server.resume()
    server.settle()
    assert (client.received, server.counts.accepted) == (b"", 0)
    table(server).remove("r")
    assert client.received == b"x"


@pytest.mark.parametrize("held", ["stall", "down"])
def test_a_listener_that_a_fault_keeps_out_is_drained_suspended_and_reloaded(held):
    """Whatever its owner does meanwhile, no peer comes in before the fault is removed."""
    kind = {"type": "down"} if held == "down" else {"type": "refuse", "how": "stall"}
    server = serve("echo")
    live = server.connect()
    running = server.server.listeners[0]
    running.faults.add(fault(**kind, name="out"))
    assert live.close_kind == ("closed" if held == "down" else None)
    server.server.suspend()
    server.server.resume()
    running.update(listener("tcp", "0.0.0.0:7", "daytime"))
    if held == "down":
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    else:
        assert server.connect().received == b""
    running.faults.remove("out")
    client = server.connect()
    server.settle()
    assert client.received.endswith(b"\r\n")
    running.faults.add(fault(**kind, name="out"))
    live.close()
    done = []
    server.drain(1).addCallback(done.append)
    server.advance(2)
    assert done


def test_a_listener_that_starts_down_comes_up_when_its_time_is_over():
    """As one of the file does; then it serves."""
    server = serve("echo", {"type": "down", "ttl": 5})
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    server.advance(5)
    assert server.connect().close_kind is None


def test_datagrams_that_are_unreachable_are_not_received():
    """Until the fault is removed."""
    server = serve("echo", {"type": "unreachable", "name": "u"}, transport="udp")
    assert server.request(b"a") == []
    table(server).remove("u")
    assert server.request(b"b") == [b"b"]


def test_f111_the_log_has_each_fault_with_its_seed():
    """From its beginning to its end; a fault without a seed picks one, which gives the same run."""
    lines = []

    def see(event):
        if event.get("log_namespace", "").endswith("Faulting"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(see)
    try:
        server = serve("echo", {"type": "latency", "latency": 5, "probability": 0.5, "ttl": 9})
        seed = table(server).faults["latency_downstream"].seed
        server.advance(10)
    finally:
        globalLogPublisher.removeObserver(see)
    values = f"name=latency_downstream,latency=5,probability=0.5,ttl=9.0,seed={seed}"
    where = "on tcp 0.0.0.0:7 (echo)"
    assert lines == [
        f"Fault latency_downstream is active {where}: latency:{values}",
        f"Fault latency_downstream has expired {where} after 0 hits: latency:{values}",
    ]
    other = serve("echo", {"type": "latency", "latency": 5})
    assert table(other).faults["latency_downstream"].seed != seed


def test_limits_end_a_connection_that_a_fault_stalls():
    """Idle, lifetime, write limit and drain."""
    for limits, seconds in (
        ({"idle_timeout": 5}, 6),
        ({"lifetime": 5}, 12),
        ({"write_timeout": 5}, 8),
    ):
        server = serve("echo", {"type": "latency", "latency": 10**8}, **limits)
        client = server.connect()
        client.send(b"x")
        server.advance(seconds)
        server.advance(6)
        assert server.connections == 0, limits
    server = serve("echo", {"type": "stall", "stream": "both"})
    server.connect().send(b"x")
    done = []
    server.drain(8).addCallback(done.append)
    server.advance(9)
    assert done
    assert not server.clock.getDelayedCalls()


def test_a_reload_changes_the_faults_of_the_file_only():
    """Those of the control API stay; equal ones keep their counts."""
    server = serve("echo", {"type": "refuse", "first": 1}, {"type": "noop"})
    server.connect()
    running = server.server.listeners[0]
    running.faults.add(fault(type="latency", latency=5))
    faults = [{"type": "refuse", "first": 1}, {"type": "latency", "name": "other"}]
    running.update(listener("tcp", "0.0.0.0:7", "echo", fault=faults))
    assert list(running.faults.faults) == ["refuse_downstream", "latency_downstream", "other"]
    assert running.faults.faults["refuse_downstream"].hits == 1


def test_info_describes_faults():
    """With their hits and the time that is left."""
    server = serve("echo", {"type": "latency", "latency": 5, "ttl": 60, "seed": 0})
    server.connect()
    server.advance(10)
    assert server.info()["listeners"][0]["faults"] == [
        {
            "name": "latency_downstream",
            "type": "latency",
            "stream": "downstream",
            "probability": 1.0,
            "attributes": {"latency": 5, "jitter": 0, "distribution": "uniform"},
            "seed": 0,
            "hits": 1,
            "expires_in": 50.0,
        }
    ]


def test_datagrams_have_faults_of_the_file():
    """And the same handle."""
    server = serve("echo", {"type": "loss", "first": 1}, transport="udp")
    assert server.request(b"a") == []
    assert server.request(b"b") == [b"b"]
    assert server.counts.datagrams_dropped["fault"] == 1
    table(server).remove("loss_downstream")
    assert server.request(b"c") == [b"c"]
