"""Servers on sockets that were passed to the process."""

import os
import socket

import pytest
import pytest_twisted
from twisted.internet import reactor

from netsrv.cli.check import check
from netsrv.config.command_line import from_command_line
from netsrv.config.model import ConfigurationError
from netsrv.registry import find_services
from netsrv.server.binding import make_reopener, open_socket
from netsrv.server.server import Server
from netsrv.server.stored import claim_stored
from netsrv.sockets.inherited import STORED, inherited_sockets
from tests.passing import datagram, passed, stream


def configuration_of(*listeners, **options):
    """Return a configuration: ``configuration_of("tcp echo=systemd:web")``."""
    pairs = [tuple(each.split(" ", 1)) for each in listeners]
    return from_command_line(pairs, options)


def ask(address, data=b"hello"):
    """Return what a server answers to *data*."""
    with socket.create_connection(address, 20) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return sock.recv(100)


@pytest_twisted.ensureDeferred
async def test_two_sockets_of_one_name_are_both_served(started, client):
    """Each has a listener; a drain closes both and leaves the manager's sockets listening."""
    with stream() as first, stream() as second, passed(("web", first), ("web", second)):
        server = Server(reactor, configuration_of("tcp echo=systemd:web"))
        server.startService()
        names = [listener.settings.address_label for listener in server.listeners]
        assert names == ["tcp systemd:web", "tcp systemd:web (socket 2)"]
        for sock in (first, second):
            assert await client(ask, sock.getsockname()) == b"hello"
        await server.stopService()
        for sock in (first, second):
            with socket.create_connection(sock.getsockname()):
                sock.accept()[0].close()


@pytest_twisted.ensureDeferred
async def test_a_datagram_socket_is_served(started, client):
    """A socket that fails is replaced by another duplicate of the inherited one."""
    with datagram() as sock, passed(("dns", sock)):
        server = started(Server(reactor, configuration_of("udp echo=systemd:dns")))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(20)
            peer.connect(sock.getsockname())
            peer.send(b"one")
            assert await client(peer.recv, 100) == b"one"
        [listener] = server.listeners
        opened = open_socket(listener.settings)
        reopened = make_reopener(listener.settings, opened)()
        assert reopened.getsockname() == sock.getsockname()
        reopened.close()


@pytest_twisted.ensureDeferred
async def test_a_reload_keeps_inherited_sockets(started, client):
    """A listener that was removed gets its socket again, with the clients that have waited."""
    with stream() as sock, passed(("web", sock)):
        server = started(Server(reactor, configuration_of("tcp echo=systemd:web")))
        inode = os.fstat(server.sockets[0].sock.fileno()).st_ino
        server.reload(configuration_of("tcp echo=systemd:web", "tcp echo=127.0.0.1:0"))
        assert os.fstat(server.sockets[0].sock.fileno()).st_ino == inode
        server.reload(configuration_of("tcp echo=127.0.0.1:0"))
        assert len(server.listeners) == 1
        waiting = await client(socket.create_connection, sock.getsockname())
        waiting.sendall(b"still")
        server.reload(configuration_of("tcp echo=systemd:web"))
        assert await client(waiting.recv, 100) == b"still"
        waiting.close()


@pytest_twisted.ensureDeferred
async def test_a_reload_cannot_bind_what_the_manager_keeps(started):
    """The port of an inherited socket stays taken: the reload fails, and nothing has changed."""
    with stream() as sock, passed(("web", sock)):
        server = started(Server(reactor, configuration_of("tcp echo=systemd:web")))
        port = sock.getsockname()[1]
        with pytest.raises(Exception, match="in use"):
            server.reload(configuration_of(f"tcp echo=127.0.0.1:{port}"))
        assert [listener.failed for listener in server.listeners] == [False]


@pytest_twisted.ensureDeferred
async def test_one_of_several_sockets_is_added_by_its_position(started):
    """A name with several sockets is refused: the handle is that of one listener."""
    with stream() as first, stream() as second, passed(("web", first), ("web", second)):
        server = started(Server(reactor, configuration_of("tcp echo=systemd:1")))
        [settings] = configuration_of("tcp discard=systemd:web").listeners
        with pytest.raises(ConfigurationError, match="2 sockets of this name; add one"):
            server.add_listener(settings)
        [settings] = configuration_of("tcp discard=systemd:0").listeners
        assert server.add_listener(settings).port == first.getsockname()[1]


def test_a_check_reads_the_options_back():
    """It shows those of the inherited socket; without systemd there is a note instead."""
    configuration = configuration_of("tcp echo=systemd:web", socket_options=["SO_RCVBUF=8192"])
    with stream() as sock, passed(("web", sock)):
        report = "\n".join(check(configuration, find_services()))
        assert f"tcp 127.0.0.1:{sock.getsockname()[1]} (echo)" in report
        assert "SO_RCVBUF                    8192        16384" in report
        assert "SO_REUSEADDR" not in report
    inherited_sockets.cache_clear()
    report = "\n".join(check(configuration, find_services()))
    inherited_sockets.cache_clear()
    assert "note: tcp systemd:web: systemd has passed no socket" in report


@pytest.mark.parametrize(
    ("key", "remedy"),
    [("reuse_port", "ReusePort="), ("reuse_address", "sets SO_REUSEADDR"), ("mode", "SocketMode=")],
)
def test_a_setting_of_the_bind_is_refused(key, remedy):
    """The socket is bound already; the line names what systemd has for it."""
    from netsrv.config.keywords import listener

    value = {"mode": "0600"}.get(key, True)
    with pytest.raises(ConfigurationError, match=remedy):
        listener("unix" if key == "mode" else "tcp", "systemd:web", "echo", **{key: value})


# The descriptor store


def stored_as(text: str) -> str:
    """Return a name of the descriptor store."""
    return f"{STORED}{text}"


@pytest_twisted.ensureDeferred
async def test_stored_sockets_are_used_for_the_same_addresses(started, client, tmp_path):
    """They are matched by the address that they are bound to; the others are left over."""
    path = str(tmp_path / "s")
    with (
        stream() as tcp,
        datagram() as udp,
        stream() as other,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(path)
        unix.listen()
        status = os.stat(path)
        file = stored_as(f"unix/{status.st_dev}-{status.st_ino}")
        entries = (stored_as("tcp/a"), tcp), (stored_as("udp/b"), udp), (stored_as("c"), other)
        with passed(*entries, (file, unix), ("web", other)):
            configuration = configuration_of(
                "tcp echo=systemd:web",
                f"tcp echo=127.0.0.1:{tcp.getsockname()[1]}",
                f"udp echo=127.0.0.1:{udp.getsockname()[1]}",
                f"unix echo={path}",
            )
            unclaimed = claim_stored(configuration.listeners)
            assert [entry.name for entry in unclaimed] == [stored_as("c")]
            server = started(Server(reactor, configuration))
            inodes = [os.fstat(each.sock.fileno()).st_ino for each in server.sockets]
            assert inodes[1:] == [os.fstat(sock.fileno()).st_ino for sock in (tcp, udp, unix)]
            assert await client(ask, tcp.getsockname()) == b"hello"


def test_a_start_that_fails_leaves_the_file_of_a_stored_socket(tmp_path):
    """The socket is in the store still, and clients wait at its file."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        status = os.stat(path)
        configuration = configuration_of(f"unix echo={path}")
        with passed((stored_as(f"unix/{status.st_dev}-{status.st_ino}"), sock)):
            assert claim_stored(configuration.listeners) == []
            open_socket(configuration.listeners[0]).close()
        assert os.path.exists(path)


def test_a_stored_socket_with_other_options_is_not_used():
    """An option of the bind has changed: the listener needs another socket."""
    with stream("::1", socket.AF_INET6) as sock:
        value = 1 - sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        port = sock.getsockname()[1]
        options = [f"IPV6_V6ONLY={value}"]
        configuration = configuration_of(f"tcp echo=[::1]:{port}", socket_options=options)
        with passed((stored_as("a"), sock)):
            assert len(claim_stored(configuration.listeners)) == 1


def test_a_stored_socket_whose_file_was_replaced_is_not_used(tmp_path):
    """Another file stands at the path: no client reaches the stored socket."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        configuration = configuration_of(f"unix echo={path}")
        with passed((stored_as("unix/1-1"), sock)):
            assert len(claim_stored(configuration.listeners)) == 1
