"""How the faults of `netsrv.testing` are added and ended, and what they have hit."""

import pytest

from netsrv.faults.kinds import DATAGRAM_KINDS, STREAM_KINDS
from netsrv.testing import MemoryServer
from tests.testing.clients import arrivals, echoed


def test_a_fault_is_added_once(server, udp):
    """Also the first one, to a connection that is live."""
    client = server.connect()
    with server.latency(100) as delaying:
        client.send(b"x")
        assert arrivals(server, client, 250) == [(100, b"x")]
    assert delaying.hits == 1
    with udp.latency(100):
        udp.send_datagram(b"x")
        udp.advance(0.1)
        assert len(udp.sent) == 1


def test_a_seed_counts_connections_from_the_fault_on(server):
    """The same fault has the same effects later, whatever came before."""
    runs = []
    for _ in range(2):
        with server.refuse(probability=0.5, seed=7):
            runs.append([server.connect().close_kind for _ in range(20)])
        with server.noop():
            server.connect()
    assert runs[0] == runs[1]
    assert {None, "closed"} == set(runs[0])


def test_faults_end(server):
    """By their end, by their names, or all together."""
    first = server.latency(100)
    second = server.latency(100, name="second")
    assert (first.name, second.name) == ("latency_downstream", "second")
    first.remove()
    first.remove()
    server.remove_fault("nix")
    client = server.connect()
    client.send(b"x")
    assert arrivals(server, client, 150) == [(100, b"x")]
    server.refuse()
    server.reset_all()
    assert echoed(server) == (b"hello", None)
    assert (first.hits, second.hits, server.hits("latency")) == (0, 1, 1)


def test_a_fault_that_has_expired_has_its_hits(server):
    """The time to live is that of the clock."""
    with server.refuse(ttl=10) as refusing:
        server.connect()
        server.advance(10)
        assert echoed(server) == (b"hello", None)
        assert refusing.hits == 1


def test_faults_of_the_configuration_end_too():
    """With clear_faults; their hits are known."""
    server = MemoryServer("echo", fault=[{"type": "refuse", "name": "r"}])
    assert echoed(server) == (b"", "closed")
    server.clear_faults()
    assert echoed(server) == (b"hello", None)
    assert server.hits("r") == 1


def test_hits_of_an_unknown_fault(server):
    """The error names the faults that there were."""
    server.noop()
    with pytest.raises(LookupError, match="no fault 'loss'; there were noop_downstream"):
        server.hits("loss")


@pytest.mark.parametrize(
    ("method", "keys", "error"),
    [
        ("latency", {"latency": "x"}, "latency: latency: 'x': "),
        ("latency", {"latency": 1, "jiter": 2}, "latency: jiter: there is no such key; did you"),
        ("loss", {}, "'loss': there is no such fault on tcp"),
        ("stall", {"after": -1}, "stall: after: "),
        ("noop", {"every": 0}, "noop: every: 0: a whole number from 1"),
        ("noop", {"stream": "up"}, "noop: stream: 'up': one of 'upstream'"),
    ],
)
def test_a_wrong_fault_is_an_error(server, method, keys, error):
    """One line says what would be right, and nothing has changed."""
    with pytest.raises(ValueError, match=error):
        getattr(server, method)(**keys)
    assert server.info()["listeners"][0]["faults"] == []


def test_an_unknown_type_is_an_error(server):
    """With the nearest one."""
    with pytest.raises(ValueError, match=r"^'latncy': there is no such fault; did"):
        server.fault("latncy")


def test_a_name_is_taken(server):
    """Of the faults in effect each has its own name."""
    server.latency(1)
    with pytest.raises(ValueError, match=r"named 'latency_downstream' already: name="):
        server.latency(2)


@pytest.mark.parametrize("name", sorted({*STREAM_KINDS, *DATAGRAM_KINDS}))
def test_every_type_of_faults_has_a_method(name):
    """Of its name, which is documented."""
    assert getattr(MemoryServer, name).__doc__


def test_the_methods_have_every_attribute(server, udp):
    """An attribute that no method has would be out of reach."""
    for each, kinds in ((server, STREAM_KINDS), (udp, DATAGRAM_KINDS)):
        for name, kind in kinds.items():
            code = getattr(MemoryServer, name).__code__
            taken = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            attributes = {field.name for field in kind.attributes.__attrs_attrs__}
            assert attributes - set(taken) <= ({"bytes"} if name == "limit_data" else set()), each


def test_held_data_survives_a_half_close_of_both_sides(server):
    """The client has ended, and so has the service; what a fault holds still arrives."""
    server.latency(100)
    client = server.connect()
    client.send(b"hello")
    client.end()
    assert arrivals(server, client, 150) == [(100, b"hello")]
    assert client.close_kind == "closed"
