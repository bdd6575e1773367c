"""Notifications to the service manager, its watchdog and its descriptor store."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from netsrv.interfaces import ListenerInfo
from netsrv.sockets.addresses import InternetAddress, UnixPath
from netsrv.sockets.opening import open_datagram, open_stream, open_unix
from netsrv.systemd.manager import STATUS_INTERVAL, ManagerNotifications
from netsrv.systemd.notifier import BARRIER_TIMEOUT, Notifier
from netsrv.systemd.store import DescriptorStore
from netsrv.systemd.variables import Variables, take_variables
from tests.systemd.receiver import Receiver

LOOPBACK = InternetAddress("127.0.0.1", 0)
LISTENER = ListenerInfo("tcp", "127.0.0.1:7", "echo")


@pytest.fixture
def manager(tmp_path):
    """Return a service manager that listens."""
    with Receiver(str(tmp_path / "notify")) as receiver:
        yield receiver


@pytest.fixture
def warnings():
    """Return the warnings of the log."""
    texts = []

    def see(event):
        if event["log_level"].name == "warn":
            texts.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(see)
    yield texts
    globalLogPublisher.removeObserver(see)


@pytest.fixture
def serve():
    """Return a function that makes the notifications of a server."""
    with ExitStack() as stack:

        def make(*arguments, **keywords):
            served = Served(*arguments, **keywords)
            stack.callback(served.notifier.close)
            return served

        yield make


class Served:
    """A server's notifications, with a clock of the test."""

    def __init__(self, address, watchdog=0.0, size=0):
        self.clock = Clock()
        self.status = "Serving"
        self.sockets = {}
        self.notifier = Notifier(address)
        self.store = DescriptorStore(self.notifier, size)
        self.to_manager = ManagerNotifications(
            self.clock,
            self.notifier,
            watchdog,
            self.store,
            lambda draining: f"Draining {draining}" if draining else self.status,
            self.sockets.get,
        )


def test_a_life(manager, serve):
    """READY, the state when it has changed, RELOADING with its time, STOPPING, EXTEND_TIMEOUT."""
    served = serve(manager.address)
    served.to_manager.ready()
    assert manager.all() == ["READY=1", "STATUS=Serving"]
    served.clock.advance(STATUS_INTERVAL)
    assert manager.all() == []
    served.status = "Serving 1 connection"
    served.clock.advance(STATUS_INTERVAL - 1)
    assert manager.all() == []
    served.clock.advance(1)
    assert manager.all() == ["STATUS=Serving 1 connection"]
    served.to_manager.reloading()
    served.to_manager.reloaded()
    reloading, ready = manager.all()
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
    assert ready == "READY=1"
    served.to_manager.stopping()
    extension = "EXTEND_TIMEOUT_USEC=15000000"
    assert manager.all() == ["STOPPING=1", "STATUS=Draining True", extension]
    served.to_manager.reloaded()  # one that the drain has ended
    served.clock.advance(STATUS_INTERVAL)
    assert manager.all() == [extension]
    served.to_manager.stop()
    assert served.clock.getDelayedCalls() == []


def test_the_watchdog_gets_a_message_at_half_of_its_time(manager, serve):
    """It comes from the reactor's turn: while none is taken, there is none."""
    served = serve(manager.address, watchdog=2.0)
    served.to_manager.ready()
    assert manager.all().count("WATCHDOG=1") == 1
    served.clock.pump([0.5, 0.5])
    assert manager.all() == ["WATCHDOG=1"]
    served.clock.advance(60)  # the reactor was blocked
    assert manager.all().count("WATCHDOG=1") == 1


def test_the_variables_are_taken():
    """Children have none of them; a watchdog of another process is not ours."""
    environ = {
        "NOTIFY_SOCKET": "@a",
        "WATCHDOG_USEC": "2000000",
        "WATCHDOG_PID": "7",
        "FDSTORE": "3",
        "PATH": "/bin",
    }
    assert take_variables(dict(environ), 7) == Variables("@a", 2.0, 3)
    assert take_variables(dict(environ), 8) == Variables("@a", 0.0, 3)
    assert take_variables({**environ, "WATCHDOG_USEC": "x"}, 7).watchdog_timeout == 0.0
    take_variables(environ, 7)
    assert environ == {"PATH": "/bin"}


def test_f97_an_abstract_socket(serve):
    """It is written with @."""
    with Receiver(f"@netsrv-test-{os.getpid()}") as receiver:
        serve(receiver.address).to_manager.ready()
        assert receiver.all() == ["READY=1", "STATUS=Serving"]


@pytest.mark.parametrize(
    "address", ["", "/nowhere/notify", "@netsrv-nowhere", "vsock:2:1", "x" * 200]
)
def test_f97_no_socket_is_not_fatal(address, warnings, serve):
    """The server goes on; one line says what is wrong with the address, if there is one."""
    served = serve(address, watchdog=2.0)
    served.to_manager.ready()
    served.clock.pump([1.0] * 20)
    served.to_manager.stopping()
    assert len(warnings) == bool(address)


def test_f97_a_manager_that_listens_again(manager, tmp_path, warnings, serve):
    """Messages that must not be lost are sent again at the next look."""
    served = serve(manager.address)
    manager.__exit__()
    os.unlink(manager.address)
    served.to_manager.ready()
    assert len(warnings) == 1
    with Receiver(manager.address) as receiver:
        served.clock.advance(STATUS_INTERVAL)
        assert receiver.all() == ["READY=1", "STATUS=Serving"]


def test_f97_a_manager_that_does_not_read(manager, warnings, serve):
    """Sending does not block; what was not sent follows when the manager has read."""
    with closing(Notifier(manager.address)) as notifier:
        while notifier.send("STATUS=much"):
            pass
    served = serve(manager.address)
    served.to_manager.ready()
    manager.all()
    served.clock.advance(STATUS_INTERVAL)
    assert manager.all() == ["READY=1", "STATUS=Serving"]
    assert len(warnings) == 2  # one of each notifier


def test_sockets_are_stored_and_removed(manager, tmp_path, serve):
    """Each has a valid name; one that a reload closes is removed, one that a drain closes stays."""
    served = serve(manager.address, size=9)
    opened = {
        "tcp": open_stream(LOOPBACK),
        "udp": open_datagram(LOOPBACK),
        "unix": open_unix(UnixPath(str(tmp_path / "s"))),
    }
    infos = {name: ListenerInfo(name, "", "") for name in opened}
    served.sockets.update((infos[name], (name, each)) for name, each in opened.items())
    for info in infos.values():
        served.to_manager.listener_started(info)
        served.to_manager.listener_started(info)  # another service: the socket is the same
    assert len(manager.all()) == 3
    assert all(message.endswith("\nFDPOLL=0") for message in manager.messages)
    assert all(re.fullmatch(r"netsrv/\w+/[!-9;-~]+", name) for name in manager.stored)
    stored = [sock.getsockname() for sock in manager.stored.values()]
    assert stored == [each.sockaddr for each in opened.values()]
    opened["udp"].close()
    assert manager.all() == [f"FDSTOREREMOVE=1\nFDNAME=netsrv/udp/127.0.0.1%3A{opened['udp'].port}"]
    served.to_manager.stopping()
    for name in ("tcp", "unix"):
        opened[name].close()
    manager.all()
    assert [sock.getsockname() for sock in manager.stored.values()] == [stored[0], stored[2]]
    assert (tmp_path / "s").is_socket()


def test_a_socket_that_failed_is_removed(manager, serve):
    """Its replacement is stored in its place."""
    served = serve(manager.address, size=9)
    opened = open_datagram(LOOPBACK)
    served.sockets[LISTENER] = ("udp", opened)
    served.to_manager.listener_started(LISTENER)
    served.to_manager.listener_failed(LISTENER, OSError(), True)
    assert len(manager.all()) == 2
    assert manager.stored == {}
    served.to_manager.listener_reopened(LISTENER)
    assert len(manager.all()) == 1
    opened.close()
    manager.all()
    assert manager.stored == {}


def test_a_store_that_is_too_small(manager, warnings, serve):
    """The sockets that find no place are closed by a restart, and a line says so."""
    served = serve(manager.address, size=1)
    sockets = [open_stream(LOOPBACK) for _ in range(3)]
    for sock in sockets:
        served.store.keep("tcp", sock)
    assert len(manager.all()) == 1
    assert len(warnings) == 1
    for sock in sockets:
        sock.close()
    manager.all()


def test_a_start_waits_until_the_manager_has_read(manager):
    """The manager closes the end of a pipe that comes with BARRIER=1."""
    with closing(Notifier(manager.address)) as notifier, ThreadPoolExecutor(1) as thread:
        read = thread.submit(manager.receive)
        began = time.monotonic()
        notifier.wait_until_read()
        assert time.monotonic() - began < BARRIER_TIMEOUT
        assert read.result() == "BARRIER=1"
