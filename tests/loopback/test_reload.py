"""Reloading a running server with another configuration."""

import os
import socket

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent

from netsrv.config.command_line import from_command_line
from netsrv.config.model import ConfigurationError
from netsrv.guards.limits import Limits, Overload
from netsrv.server import listener
from netsrv.sockets.steps import AddressUnavailable
from tests.clients import ask, connect, free_port, visit
from tests.reactor import sockets_open, until


def configuration_of(*listeners, **options):
    """Return a configuration: ``configuration_of("tcp echo=127.0.0.1:0")``."""
    return from_command_line([tuple(each.split(" ", 1)) for each in listeners], options)


def limited(configuration, **limits):
    """Return a configuration with other limits for all its listeners."""
    changed = [evolve(each, limits=Limits(**limits)) for each in configuration.listeners]
    return evolve(configuration, listeners=tuple(changed))


async def connected(server, client, which=0):
    """Connect to one of the listeners, and exchange a byte."""
    sock = await client(connect, server.sockets[which])
    sock.sendall(b"x")
    assert await client(sock.recv, 1) == b"x"
    return sock


def identities(server):
    """Return the inodes of the sockets: a socket that was reopened has another."""
    return [os.fstat(each.sock.fileno()).st_ino for each in server.sockets]


@pytest_twisted.ensureDeferred
async def test_listeners_are_added_and_removed(serve, client, tmp_path):
    """Connections of a removed listener stay open; other listeners are not touched."""
    server = serve("tcp echo=127.0.0.1:0", f"unix echo={tmp_path}/s")
    kept, gone = server.sockets
    sock = await connected(server, client, 1)
    before = identities(server)
    new = configuration_of("tcp echo=127.0.0.1:0", "udp echo=127.0.0.1:0")
    server.reload(new)
    assert server.configuration is new
    assert server.sockets[0] is kept
    assert identities(server)[0] == before[0]
    assert await client(ask, server.sockets[1], b"new") == [b"new"]
    assert not (tmp_path / "s").exists()
    assert gone.sock.fileno() == -1
    sock.sendall(b"still")
    assert await client(sock.recv, 5) == b"still"
    assert server.connections == 1
    sock.close()
    await server.wait_for_connections(lambda count: count == 0)


@pytest_twisted.ensureDeferred
async def test_a_listener_gets_another_service_on_its_socket(serve, client):
    """New connections have the new service, live ones keep theirs, and none is refused."""
    server = serve("tcp echo=127.0.0.1:0", "udp echo=127.0.0.1:0")
    before = identities(server)
    sock = await connected(server, client)
    server.suspend()
    waiting = await client(connect, server.sockets[0])
    server.reload(configuration_of("tcp daytime=127.0.0.1:0", "udp discard=127.0.0.1:0"))
    assert identities(server) == before
    assert all(each["counts"]["suspended"] for each in server.info()["listeners"])
    server.resume()
    assert (await client(waiting.recv, 100)).endswith(b"\r\n")
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.sendto(b"x", ("127.0.0.1", server.sockets[1].port))
        received = server.counters.listeners[server.listeners[1].gate.listener_info]
        await until(lambda: received.datagrams_received == 1)
        assert received.datagrams_sent == 0
    sock.sendall(b"still")
    assert await client(sock.recv, 5) == b"still"
    assert [each.name.rpartition(" ")[2] for each in server.listeners] == [
        "(daytime)",
        "(discard)",
    ]
    for each in (sock, waiting):
        each.close()


@pytest_twisted.ensureDeferred
async def test_new_limits_count_live_connections(serve, client):
    """With one live connection, a limit of 2 admits one more, and a limit of 1 none."""
    first = configuration_of("tcp echo=127.0.0.1:0")
    server = serve("tcp echo=127.0.0.1:0")
    old = await connected(server, client)
    server.reload(limited(first, max_connections=2, overload=Overload.CLOSE))
    second = await connected(server, client)
    assert await client(visit, server.sockets[0], b"") == b""
    server.reload(limited(first, per_source=1))
    assert await client(visit, server.sockets[0], b"") == b""
    server.reload(first)
    assert await client(visit, server.sockets[0], b"again") == b"again"
    counts = [
        sum(gate.admission.slots[0].in_use for gate in [each.gate]) for each in server.listeners
    ]
    assert counts == [2]
    for each in (old, second):
        each.close()
    await server.wait_for_connections(lambda count: count == 0)
    assert server.listeners[0].gate.admission.slots[0].in_use == 0


@pytest_twisted.ensureDeferred
async def test_a_raised_limit_admits_the_backlog(serve, client):
    """The backlog is served by the listener's new service."""
    first = configuration_of("tcp echo=127.0.0.1:0")
    server = serve("tcp echo=127.0.0.1:0")
    server.reload(limited(first, max_connections=1))
    inside = await connected(server, client)
    waiting = await client(connect, server.sockets[0])
    waiting.sendall(b"x")
    server.reload(limited(first, max_connections=2))
    assert await client(waiting.recv, 1) == b"x"
    for each in (inside, waiting):
        each.close()


@pytest_twisted.ensureDeferred
async def test_time_limits_apply_to_new_connections(serve, client):
    """A live connection keeps its time limits."""
    first = configuration_of("tcp echo=127.0.0.1:0")
    server = serve("tcp echo=127.0.0.1:0")
    old = await connected(server, client)
    server.reload(limited(first, idle_timeout=0.1))
    new = await connected(server, client)
    assert await client(new.recv, 1) == b""
    old.sendall(b"still")
    assert await client(old.recv, 5) == b"still"
    for each in (old, new):
        each.close()


@pytest.mark.parametrize(
    ("last", "error"),
    [("tcp nosuch=0", ConfigurationError), ("tcp 192.0.2.1:0", AddressUnavailable)],
)
@pytest_twisted.ensureDeferred
async def test_f90_what_cannot_be_changes_nothing(serve, client, last, error):
    """Sockets opened for a failed reload are closed, and the listeners are as before."""
    server = serve("tcp echo=127.0.0.1:0")
    before, configuration = identities(server), server.configuration
    with pytest.raises(error):
        server.reload(configuration_of("tcp daytime=127.0.0.1:0", "udp echo=127.0.0.1:0", last))
    assert identities(server) == before
    assert server.configuration is configuration
    assert await client(visit, server.sockets[0], b"as before") == b"as before"


@pytest_twisted.ensureDeferred
async def test_an_access_log_that_cannot_be_opened_changes_nothing(serve, client, tmp_path):
    """The access log is opened before anything is changed, and then written."""
    first = configuration_of("tcp echo=127.0.0.1:0")
    server = serve("tcp echo=127.0.0.1:0")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        server.reload(evolve(first, access_log=str(tmp_path), listeners=()))
    assert len(server.listeners) == 1
    server.reload(evolve(first, access_log=f"{tmp_path}/log"))
    assert await client(visit, server.sockets[0], b"x") == b"x"
    await server.wait_for_connections(lambda count: count == 0)
    server.reload(first)
    assert '"ended":"peer"' in (tmp_path / "log").read_text()
    assert server.info()["access_log"] is None


@pytest_twisted.ensureDeferred
async def test_an_address_may_become_narrower(serve, client):
    """A listener can go from all addresses to one on the same port, which cannot be bound twice."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(f"tcp echo=0.0.0.0:{port}", f"udp echo=0.0.0.0:{port}")
    sock = await connected(server, client)
    server.reload(configuration_of(f"tcp echo=127.0.0.1:{port}", f"udp echo=127.0.0.1:{port}"))
    assert [each.address for each in server.sockets] == [f"127.0.0.1:{port}"] * 2
    assert await client(visit, server.sockets[0], b"x") == b"x"
    assert await client(ask, server.sockets[1], b"x") == [b"x"]
    sock.sendall(b"still")
    assert await client(sock.recv, 5) == b"still"
    sock.close()


@pytest_twisted.ensureDeferred
async def test_options_are_set_on_the_open_socket(serve, client):
    """This includes the backlog; an option that a bound socket refuses waits for a restart."""
    server = serve("tcp echo=127.0.0.1:0")
    server.reload(
        configuration_of("tcp echo=127.0.0.1:0", socket_options=["SO_RCVBUF=10000"], backlog="7")
    )
    [info] = server.info()["listeners"]
    assert info["options"]["SO_RCVBUF"] == {"asked": 10000, "in_effect": 20000}
    assert info["options"]["backlog"] == {"asked": 7, "in_effect": 7}
    assert await client(visit, server.sockets[0], b"x") == b"x"


@pytest_twisted.ensureDeferred
async def test_same_follows_the_first_tcp_listener(serve, client):
    """A ``same`` port is the first TCP listener's after a reload too."""
    server = serve("tcp echo=127.0.0.1:0")
    port = server.sockets[0].port
    server.reload(configuration_of("tcp echo=127.0.0.1:0", "udp echo=127.0.0.1:same"))
    assert [each.port for each in server.sockets] == [port, port]
    assert await client(ask, server.sockets[1], b"x") == [b"x"]


@pytest_twisted.ensureDeferred
async def test_own_ports_follow(serve):
    """A datagram from an own port is not answered, even if the port is new."""
    server = serve("udp echo=127.0.0.1:0")
    server.reload(configuration_of("udp echo=127.0.0.1:0", "udp discard=127.0.0.1:0"))
    ours, other = server.sockets
    other.sock.sendto(b"x", ("127.0.0.1", ours.port))

    def dropped():
        return server.info()["listeners"][0]["counts"]["datagrams_dropped"]

    await until(lambda: dropped() == {"own_port": 1})


@pytest_twisted.ensureDeferred
async def test_a_service_that_cannot_be_started_leaves_the_rest(serve, client, monkeypatch):
    """Its listener stays as before, the others change."""
    from netsrv.services.daytime import DaytimeService

    server = serve("tcp echo=127.0.0.1:0", "tcp qotd=127.0.0.1:0")
    before, open_before = identities(server), sockets_open()
    really = DaytimeService.stream

    def stream(self, settings):
        factory = really(self, settings)
        factory.startFactory = lambda: 1 / 0
        return factory

    monkeypatch.setattr(DaytimeService, "stream", stream)
    server.reload(
        configuration_of(
            "tcp daytime=127.0.0.1:0", "tcp time=127.0.0.1:0", "tcp daytime=127.0.0.1:0"
        )
    )
    assert identities(server) == before
    assert sockets_open() == open_before
    assert await client(visit, server.sockets[0], b"as before") == b"as before"
    assert len(await client(visit, server.sockets[1])) == 4


@pytest_twisted.ensureDeferred
async def test_many_reloads_leave_nothing_behind(serve, client):
    """No gate, timer, observer or descriptor of removed listeners remains."""
    first, second = (configuration_of(f"tcp {name}=127.0.0.1:0") for name in ("echo", "daytime"))
    server = serve("tcp echo=127.0.0.1:0")
    live = await connected(server, client)
    open_before, timers = sockets_open(), len(reactor.getDelayedCalls())
    for _ in range(50):
        server.reload(second)
        server.reload(first)
    assert sockets_open() == open_before
    assert len(reactor.getDelayedCalls()) <= timers + 1
    assert server.connections == 1
    live.close()
    await server.wait_for_connections(lambda count: count == 0)


@pytest.mark.parametrize("surprise", [KeyboardInterrupt, GeneratorExit, CancelledError, SystemExit])
@pytest_twisted.ensureDeferred
async def test_f134_a_reload_takes_each_step_whatever_a_service_raises(serve, client, surprise):
    """The service that cannot be started is named, and the log says that it has reloaded."""

    def fail():
        raise surprise

    moody = Factory.forProtocol(Protocol)
    moody.startFactory = fail
    server = serve("tcp echo=127.0.0.1:0")
    added = (listener("tcp", "127.0.0.1:0", "echo"), listener("tcp", "127.0.0.2:0", moody))
    changed = evolve(server.configuration.listeners[0], service=moody)
    with capturedLogs() as events:
        server.reload(evolve(server.configuration, listeners=(changed, *added[1:])))
        server.reload(configuration_of("tcp echo=127.0.0.1:0", "udp echo=127.0.0.1:0"))
    lines = [formatEvent(event) for event in events]
    failed = f"the service 'Protocol' cannot be started: {surprise.__name__}: "
    for host in ("127.0.0.1", "127.0.0.2"):
        assert f"tcp {host}:0: {failed}" in lines
    assert sum(line.startswith("Reloaded: ") for line in lines) == 2
    assert await client(ask, server.sockets[1], b"new") == [b"new"]


@pytest_twisted.ensureDeferred
async def test_a_server_that_ends_is_not_reloaded(serve, client):
    """A reload during a drain adds no listener."""
    server = serve("tcp echo=127.0.0.1:0")
    sock = await connected(server, client)
    draining = server.drain(60)
    with pytest.raises(RuntimeError):
        server.reload(server.configuration)
    assert server.listeners == []
    sock.close()
    await draining


@pytest_twisted.ensureDeferred
async def test_same_is_right_also_where_the_first_has_to_wait(serve, client):
    """The first TCP listener becomes narrower, and another one shares its port."""
    port = free_port()
    server = serve(f"tcp echo=0.0.0.0:{port}")
    server.reload(configuration_of(f"tcp echo=127.0.0.1:{port}", "udp echo=127.0.0.1:same"))
    assert sorted(each.address for each in server.sockets) == [f"127.0.0.1:{port}"] * 2
    assert await client(ask, server.sockets[1], b"x") == [b"x"]


@pytest_twisted.ensureDeferred
async def test_a_listener_closed_for_a_failed_reload_is_served_again(serve, client):
    """If another program has part of the wider address, the narrower one is served again."""
    port = free_port()
    server = serve(f"tcp echo=127.0.0.1:{port}")
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))
        other.listen()
        server.reload(configuration_of(f"tcp echo=0.0.0.0:{port}"))
        assert [each.address for each in server.sockets] == [f"127.0.0.1:{port}"]
        assert await client(visit, server.sockets[0], b"x") == b"x"


@pytest_twisted.ensureDeferred
async def test_a_listener_that_was_gone_is_there_again(serve, client):
    """A reload reopens a listener whose socket failed; a resume disturbs no connection."""
    server = serve("tcp echo=127.0.0.1:0", "tcp echo=127.0.0.1:0")
    first = server.sockets[0]
    first.sock.shutdown(socket.SHUT_RDWR)
    await until(lambda: server.listeners[0].failed)
    server.suspend()
    server.resume()
    assert await client(visit, server.sockets[1], b"x") == b"x"
    server.reload(server.configuration)
    assert [await client(visit, each, b"x") for each in server.sockets] == [b"x", b"x"]


@pytest.mark.parametrize("mode", [0o600, 0o666])
@pytest_twisted.ensureDeferred
async def test_permissions_of_a_socket_file_change(serve, client, tmp_path, mode):
    """Only our file's do: a file that replaced it is left alone."""
    path, victim = tmp_path / "s", tmp_path / "victim"
    first = configuration_of(f"unix echo={path}")
    changed = evolve(first, listeners=(evolve(first.listeners[0], mode=mode),))
    server = serve(f"unix echo={path}")
    server.reload(changed)
    assert path.stat().st_mode & 0o777 == mode
    victim.touch(0o640)
    path.unlink()
    path.symlink_to(victim)
    server.reload(evolve(first, listeners=(evolve(first.listeners[0], mode=0o604),)))
    assert victim.stat().st_mode & 0o777 == 0o640
    path.unlink()


@pytest_twisted.ensureDeferred
async def test_other_limits_are_no_reason_to_start_a_service_again(serve, client, monkeypatch):
    """A change of limits does not stop the factory under its live connections."""
    from twisted.internet.protocol import Factory

    first = configuration_of("tcp echo=127.0.0.1:0", "udp echo=127.0.0.1:0")
    server = serve("tcp echo=127.0.0.1:0", "udp echo=127.0.0.1:0")
    told = []
    monkeypatch.setattr(Factory, "doStart", lambda self: told.append("start"))
    monkeypatch.setattr(Factory, "doStop", lambda self: told.append("stop"))
    live = await connected(server, client)
    server.reload(limited(first, per_source=1, refuse_source_ports=frozenset(range(65536))))
    assert told == []
    assert await client(visit, server.sockets[0], b"") == b""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.sendto(b"x", ("127.0.0.1", server.sockets[1].port))
        counts = server.counters.listeners[server.listeners[1].gate.listener_info]
        await until(lambda: counts.datagrams_dropped == {"source_port": 1})
    live.close()
    monkeypatch.undo()


@pytest_twisted.ensureDeferred
async def test_a_server_that_still_drains_is_not_started(serve, client):
    """Starting a draining server raises, as the drain would end the new run."""
    server = serve("tcp echo=127.0.0.1:0")
    sock = await connected(server, client)
    stopping = server.stopService()
    with pytest.raises(RuntimeError):
        server.startService()
    sock.close()
    await stopping
    server.startService()
    assert await client(visit, server.sockets[0], b"again") == b"again"
