"""Reloads of a configuration file: read beside the reactor, applied over its turns, one by one."""

import socket
import threading
from types import SimpleNamespace

import pytest
from twisted.internet.defer import fail, succeed
from twisted.logger import capturedLogs, formatEvent

from netsrv.cli.reloading import Reloader
from netsrv.config import Configuration, ConfigurationError, listener
from netsrv.registry import Registry, find_services
from netsrv.server.checked import CheckedConfiguration, check_configuration
from netsrv.server.reloads import ReloadHistory
from netsrv.sockets.steps import AddressUnavailable
from tests.timeouts import TIMEOUT

ECHO = listener("tcp", "127.0.0.1:7", "echo")


class Reactor:
    """Keeps the calls from threads until the test's next turn."""

    def __init__(self):
        self.calls = []

    def callFromThread(self, call, *arguments):
        self.calls.append((call, arguments))

    def turn(self):
        calls, self.calls = self.calls, []
        for call, arguments in calls:
            call(*arguments)


class FakeServer:
    """Counts the reloads; raises what it is given."""

    running, listeners = True, ()

    def __init__(self):
        self.reloads = []
        self.error = None
        self.status = SimpleNamespace(reloads=ReloadHistory())

    def reload_in_turns(self, checked, entered):
        if self.error is not None:
            return fail(self.error)
        self.reloads.append(checked)
        return succeed(None)


class Bench:
    """A reloader whose threads run when the test says so."""

    def __init__(self):
        self.reactor, self.server = Reactor(), FakeServer()
        self.threads, self.reads, self.error = [], 0, None
        self.reloader = Reloader(self.reactor, self.server, self.read, self.threads.append)

    def read(self, running):
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.reads

    def finish(self):
        """Run the thread that was started, and the reactor's next turn."""
        self.threads.pop(0)()
        self.reactor.turn()

    def lines(self):
        with capturedLogs() as events:
            self.finish()
        return [formatEvent(event) for event in events]


def test_f132_the_file_is_read_in_a_thread_and_applied_in_a_turn():
    """Asking for a reload reads nothing, and the thread changes nothing."""
    bench = Bench()
    bench.reloader.reload()
    assert (bench.reads, bench.server.reloads) == (0, [])
    bench.threads.pop(0)()
    assert (bench.reads, bench.server.reloads) == (1, [])
    bench.reactor.turn()
    assert bench.server.reloads == [1]


def test_f132_signals_during_a_reload_are_one_reload_after_it():
    """The file may have changed after it was read, so it is read once more, and only once."""
    bench = Bench()
    for _ in range(100):
        bench.reloader.reload()
    assert len(bench.threads) == 1
    bench.finish()
    assert len(bench.threads) == 1
    bench.finish()
    assert bench.threads == []
    assert bench.server.reloads == [1, 2]
    bench.reloader.reload()
    assert len(bench.threads) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigurationError("one", "two"), "one"),
        (AddressUnavailable("tcp x:7: no"), "tcp x:7: no"),
        (OSError(24, "Too many open files"), "[Errno 24] Too many open files"),
    ],
)
@pytest.mark.parametrize("where", ["read", "apply"])
def test_f134_a_reload_that_fails_is_reported_and_the_next_one_works(where, error, line):
    """The lines of the error, then what holds; a signal that came meanwhile is not lost."""
    bench = Bench()
    bench.error, bench.server.error = (error, None) if where == "read" else (None, error)
    bench.reloader.reload()
    bench.reloader.reload()
    lines = bench.lines()
    assert line in lines
    assert lines[-1] == "Nothing is changed: the configuration is as before"
    bench.error = bench.server.error = None
    bench.finish()
    assert len(bench.server.reloads) == 1


@pytest.mark.parametrize("where", ["read", "apply"])
@pytest.mark.parametrize(
    ("surprise", "expected_failures"),
    [
        (kind, [kind.__name__])
        for kind in (KeyboardInterrupt, GeneratorExit, SystemExit, AssertionError, MemoryError)
    ],
)
def test_f134_a_reload_that_raises_anything_is_reported(where, surprise):
    """The log has the traceback, a line with the exception, and what holds."""
    bench = Bench()
    bench.error, bench.server.error = (surprise(), None) if where == "read" else (None, surprise())
    bench.reloader.reload()
    lines = bench.lines()
    assert lines[-2:] == [
        f"{surprise.__name__}: ",
        "Nothing is changed: the configuration is as before",
    ]
    bench.error = bench.server.error = None
    bench.reloader.reload()
    bench.finish()
    assert len(bench.server.reloads) == 1


def test_f132_a_drain_that_starts_during_a_reload_has_no_reload_after_it():
    """The server says that it does not run; what was asked for meanwhile is dropped."""
    bench = Bench()
    bench.reloader.reload()
    bench.reloader.reload()
    bench.server.running = False
    bench.server.error = RuntimeError("the server is not running")
    assert bench.lines()[-1] == "Nothing is changed: the configuration is as before"
    assert bench.threads == []


def test_f132_the_end_of_the_process_waits_for_no_thread():
    """A name server that never answers holds up neither a drain nor the exit."""
    asked, answered, threads = threading.Event(), threading.Event(), []

    def read(running):
        threads.append(threading.current_thread())
        asked.set()
        answered.wait(TIMEOUT)

    class ClosedReactor:
        def callFromThread(self, call, *arguments):
            raise RuntimeError("Event loop is closed")

    Reloader(ClosedReactor(), FakeServer(), read).reload()
    assert asked.wait(TIMEOUT)
    assert threads[0].daemon
    answered.set()
    threads[0].join(TIMEOUT)


# Host names


@pytest.fixture
def lookups(monkeypatch):
    """Count the look-ups; every name is 127.0.0.1."""
    hosts = []
    really = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **keywords):
        hosts.append((host, threading.current_thread() is threading.main_thread()))
        return really("127.0.0.1", *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return hosts


def in_thread(function, *arguments):
    """Call a function in a thread, and return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    thread.join(TIMEOUT)
    return results[0]


def test_f132_names_are_looked_up_once_and_never_in_the_reactors_thread(lookups):
    """Those of new listeners, and of listeners with other options; two with one name ask once."""
    old = [listener("tcp", f"old{number}.example:0", "echo") for number in range(3)]
    registry = find_services()
    changed = listener("tcp", "old0.example:0", "echo", reuse_port=True)
    new = [listener("tcp", f"new.example:{port}", "echo") for port in (0, 7, "same")]
    configuration = Configuration((changed, *old[1:], *new))
    running = tuple(old)
    checked = in_thread(check_configuration, configuration, running, registry)
    assert lookups == [("old0.example", False), ("new.example", False)]
    assert isinstance(checked, CheckedConfiguration)
    assert [
        settings is before
        for settings, before in zip(checked.configuration.listeners[1:3], old[1:], strict=True)
    ] == [True, True]


def test_f132_equal_settings_are_the_running_ones():
    """So the reactor's turn compares identities, however long the lists of networks are."""
    networks = [f"10.{number // 256}.{number % 256}.0/24" for number in range(2000)]
    first, second = (
        tuple(listener("tcp", 7 + index, "echo", only_from=networks) for index in range(3))
        for _ in range(2)
    )
    checked = check_configuration(Configuration(second), first, Registry())
    assert all(
        settings is before
        for settings, before in zip(checked.configuration.listeners, first, strict=True)
    )
