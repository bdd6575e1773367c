"""A reload over many turns of the reactor, and what happens in between."""

import socket
import threading

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor, task
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent

from netsrv.config import Configuration, listener
from netsrv.config.model import ConfigurationError, LogFormat
from netsrv.observers import Observer
from netsrv.registry import find_services
from netsrv.server import slices
from netsrv.server.checked import check_configuration
from netsrv.server.server import Server
from netsrv.services.echo import EchoService
from netsrv.sockets.steps import AddressUnavailable
from netsrv.testing import MemoryServer
from tests.clients import connect, free_port, visit
from tests.reactor import sockets_open, until
from tests.timeouts import TIMEOUT

NUMBER = 20
"""Listeners of a reload that another act interrupts."""


@pytest.fixture(autouse=True)
def short_slices(monkeypatch):
    """Take one step in each turn of the reactor."""
    monkeypatch.setattr(slices, "SLICE_DURATION", -1.0)


def listeners(number, network, service="echo"):
    """Return listeners with addresses of their own."""
    hosts = [f"127.{network}.{index // 250}.{index % 250 + 1}" for index in range(number)]
    return [listener("tcp", f"{host}:0", service) for host in hosts]


def checked(settings, server):
    """Return what a thread does for a reload."""
    running = [each.settings for each in server.listeners]
    return check_configuration(Configuration(tuple(settings)), running, find_services())


def begin(server, settings):
    """Begin a reload; its Deferred's result or Failure is appended to the list that is returned."""
    outcome = []
    server.reload_in_turns(checked(settings, server)).addBoth(outcome.append)
    return outcome


async def planned(server, settings):
    """Begin a reload that has opened its first sockets and changed nothing."""
    before = sockets_open()
    outcome = begin(server, settings)
    await until(lambda: sockets_open() > before + 2)
    assert outcome == []
    return outcome


async def half_applied(server, settings):
    """Begin a reload that has started some of its listeners."""
    outcome = begin(server, settings)
    wanted = {each.address_label for each in settings}
    await until(lambda: running_labels(server) & wanted)
    assert outcome == []
    return outcome


async def started_changing(server, settings, moment):
    """Begin a reload that changes listeners; wait for its first change if *moment* asks for one."""
    outcome = begin(server, settings)
    if moment is half_applied:
        await until(lambda: any(each.settings.service == "discard" for each in server.listeners))
    assert outcome == []
    return outcome


def running_labels(server):
    """Return the addresses of the running listeners, as they were asked for."""
    return {each.settings.address_label for each in server.listeners}


def labels(settings):
    """Return the addresses of settings."""
    return {each.address_label for each in settings}


class Numbers(Protocol):
    """Reports what the test asks for whenever data arrives."""

    def dataReceived(self, data):
        self.factory.reports.append(self.factory.report())


@pytest_twisted.ensureDeferred
async def test_f132_connections_are_served_in_the_middle_of_a_reload(started, client):
    """500 listeners are replaced; a byte that comes at the 100th new one is served then."""
    factory = Factory.forProtocol(Numbers)
    factory.reports = []
    own = listener("tcp", "127.0.0.1:0", factory)
    new = [own, *listeners(500, 2)]

    class Sender(Observer):
        count = 0

        def listener_started(self, listener):
            self.count += 1
            if self.count == 100:
                sock.sendall(b"x")

    server = started(Server(reactor, [own, *listeners(500, 1)]))
    sock = await client(connect, server.sockets[0])
    await server.wait_for_connections(lambda count: count == 1)
    sender = Sender()
    server.observers.add(sender)
    factory.report = lambda: (sender.count, list(outcome))
    outcome = begin(server, new)
    await until(lambda: outcome)
    [(count, outcome_then)] = factory.reports
    assert 100 <= count < 110
    assert outcome_then == []
    assert outcome == [None]
    assert running_labels(server) == labels(new)
    sock.close()
    await server.wait_for_connections(lambda count: count == 0)


@pytest_twisted.ensureDeferred
async def test_a_small_reload_happens_within_one_turn(started, monkeypatch):
    """Its Deferred has fired when the method returns."""
    monkeypatch.setattr(slices, "SLICE_DURATION", TIMEOUT)
    server = started(Server(reactor, listeners(1, 1)))
    assert begin(server, listeners(3, 2)) == [None]
    assert running_labels(server) == labels(listeners(3, 2))


@pytest.mark.parametrize("stop", [Server.stopService, lambda server: server.drain(TIMEOUT)])
@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_abandons_a_plan(started, stop):
    """The reload fails, no listener is started, and no socket stays open."""
    before = sockets_open()
    server = started(Server(reactor, listeners(2, 1)))
    outcome = await planned(server, listeners(NUMBER, 2))
    ended = stop(server)
    assert outcome[0].check(RuntimeError)
    assert server.listeners == []
    assert sockets_open() == before
    await ended
    assert sockets_open() == before


@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_completes_what_is_half_applied(started):
    """The reload ends before the drain begins: each listener is started and closed once."""
    before = sockets_open()
    server = started(Server(reactor, listeners(2, 1)))
    outcome = await half_applied(server, listeners(NUMBER, 2))
    with capturedLogs() as events:
        ended = server.stopService()
    assert outcome == [None]
    lines = [formatEvent(event) for event in events]
    assert f"Reloaded: 0 listeners as before, 0 changed, {NUMBER} added, 2 closed" in lines
    await ended
    assert (server.listeners, sockets_open()) == ([], before)


@pytest_twisted.ensureDeferred
async def test_a_service_that_stops_the_server_is_the_last_one_started(started):
    """No listener is started after the stop, and no socket stays open."""
    before, starts, stopping = sockets_open(), [], []

    class Stopping(Factory):
        noisy = False

        def startFactory(self):
            starts.append(self)
            if len(starts) == 3:
                stopping.append(server.stopService())

    server = started(Server(reactor, listeners(1, 1)))
    outcome = begin(server, [listener("tcp", "127.0.0.1:0", Stopping()) for _ in range(NUMBER)])
    await until(lambda: outcome)
    await stopping[0]
    assert len(starts) == 3
    assert outcome[0].check(RuntimeError)
    assert (server.listeners, sockets_open()) == ([], before)


@pytest_twisted.ensureDeferred
async def test_a_service_that_stops_the_server_when_it_is_built(started, monkeypatch):
    """The plan is abandoned with that step."""
    before, stopping = sockets_open(), []
    really = EchoService.stream

    def stream(self, settings):
        stopping.append(server.stopService())
        return really(self, settings)

    server = started(Server(reactor, listeners(1, 1, "discard")))
    monkeypatch.setattr(EchoService, "stream", stream)
    outcome = begin(server, listeners(NUMBER, 2))
    await until(lambda: outcome)
    assert len(stopping) == 1
    await stopping[0]
    assert outcome[0].check(RuntimeError)
    assert (server.listeners, sockets_open()) == ([], before)


@pytest_twisted.ensureDeferred
async def test_listeners_that_a_reload_starts_are_suspended_with_the_server(started, client):
    """Suspending neither ends the reload nor lets a listener serve."""
    server = started(Server(reactor, listeners(1, 1)))
    outcome = await planned(server, listeners(NUMBER, 2))
    server.suspend()
    await until(lambda: outcome)
    assert outcome == [None]
    assert all(each.suspended for each in server.listeners)
    server.resume()
    assert await client(visit, server.sockets[-1], b"x") == b"x"


@pytest.mark.parametrize("moment", [planned, half_applied])
@pytest_twisted.ensureDeferred
async def test_listeners_that_a_program_adds_and_closes_meanwhile(started, moment):
    """They stay so, whether the reload would keep, change or remove them."""
    old = listeners(3, 1)
    new = [old[0], evolve(old[1], service="discard"), *listeners(NUMBER, 2)]
    server = started(Server(reactor, old))
    outcome = await moment(server, new)
    added = listener("tcp", "127.0.0.9:0", "echo")
    server.add_listener(added)
    closed = [await server.remove_listener(each.settings) for each in server.listeners[:2]]
    assert len(closed) == 2
    await until(lambda: outcome)
    assert outcome == [None]
    assert running_labels(server) == labels([added, *new[2:]])


@pytest.mark.parametrize("moment", [planned, half_applied])
@pytest_twisted.ensureDeferred
async def test_an_update_meanwhile_stays(started, moment):
    """A listener that the reload would keep or change has the settings that the program gave it."""
    old = listeners(3, 1)
    changed = [evolve(each, service="discard") for each in listeners(NUMBER, 1)[1:]]
    server = started(Server(reactor, [*old, *listeners(NUMBER, 1)[3:]]))
    outcome = await started_changing(server, [old[0], *changed], moment)
    kept, last = server.listeners[0], server.listeners[-1]
    for running in (kept, last):
        running.update(evolve(running.settings, service="chargen"))
    await until(lambda: outcome)
    assert outcome == [None]
    services = [each.settings.service for each in server.listeners]
    assert services == ["chargen", *["discard"] * (NUMBER - 2), "chargen"]


@pytest_twisted.ensureDeferred
async def test_a_listener_that_the_program_closes_is_reported_and_counted_once(started):
    """The reload reports those that it has closed itself."""
    old = listeners(5, 1)
    server = started(Server(reactor, old))
    with capturedLogs() as events:
        outcome = await planned(server, listeners(NUMBER, 2))
        await server.remove_listener(old[0])
        await until(lambda: outcome)
    lines = [formatEvent(event) for event in events]
    assert len([line for line in lines if line.startswith("Closed tcp 127.1.")]) == 5
    assert any("20 added, 4 closed" in line for line in lines)


@pytest_twisted.ensureDeferred
async def test_a_listener_that_the_program_has_closed_is_not_opened_again(started):
    """Also where the listener fails that the reload would have put in its place."""
    port = free_port()
    old = listener("tcp", f"0.0.0.0:{port}", "echo")
    failing = Factory.forProtocol(Protocol)
    failing.doStart = lambda: 1 / 0
    new = [*listeners(NUMBER, 2), listener("tcp", f"127.0.0.1:{port}", failing)]
    server = started(Server(reactor, [old]))
    outcome = await half_applied(server, new)
    await server.remove_listener(old)
    await until(lambda: outcome)
    assert port not in [each.port for each in server.listeners]


@pytest.mark.parametrize("moment", [planned, half_applied])
@pytest_twisted.ensureDeferred
async def test_a_reload_that_is_cancelled_does_not_outlive_the_server(started, moment):
    """It is over at once: nothing is started after a stop, and nothing stays open."""
    before = sockets_open()
    server = started(Server(reactor, listeners(1, 1)))
    deferreds = []
    reload_in_turns = server.reload_in_turns

    def remember(checked):
        deferreds.append(reload_in_turns(checked))
        return deferreds[0]

    server.reload_in_turns = remember
    await moment(server, listeners(NUMBER, 2))
    deferreds[0].addErrback(lambda failure: None).cancel()
    await server.stopService()
    for _ in range(2 * NUMBER):
        await task.deferLater(reactor, 0)
    assert (server.listeners, sockets_open()) == ([], before)


@pytest_twisted.ensureDeferred
async def test_log_format_is_that_of_the_start(started):
    """Each reload that asks for another one says that it needs a restart."""
    server = started(Server(reactor, listeners(1, 1)))
    said = []
    for log_format in (LogFormat.JSON, LogFormat.JSON, LogFormat.TEXT):
        with capturedLogs() as events:
            server.reload(evolve(server.configuration, log_format=log_format))
        said.append(sum("with a restart" in formatEvent(event) for event in events))
    assert said == [1, 1, 0]
    assert server.configuration.log_format is LogFormat.TEXT


@pytest_twisted.ensureDeferred
async def test_another_reload_follows(started):
    """Each one is complete before the next one begins; the last one holds."""
    server = started(Server(reactor, listeners(1, 1)))
    outcomes = [begin(server, listeners(NUMBER, network)) for network in (2, 3, 4)]
    await until(lambda: outcomes[0])
    assert running_labels(server) == labels(listeners(NUMBER, 2))
    assert outcomes[1:] == [[], []]
    await until(lambda: outcomes[2])
    assert outcomes == [[None]] * 3
    assert running_labels(server) == labels(listeners(NUMBER, 4))


@pytest.mark.parametrize("moment", [planned, half_applied])
@pytest_twisted.ensureDeferred
async def test_a_reload_at_once_takes_the_place_of_others(started, moment):
    """A plan is abandoned, a half applied one completed, and those that wait never begin."""
    server = started(Server(reactor, listeners(1, 1)))
    before = sockets_open()
    first = await moment(server, listeners(NUMBER, 2))
    waiting = begin(server, listeners(NUMBER, 3))
    with capturedLogs() as events:
        server.reload(Configuration(tuple(listeners(1, 4))))
    lines = [formatEvent(event) for event in events]
    assert len([line for line in lines if line.startswith("Reloaded: ")]) == (
        1 if moment is planned else 2
    )
    assert (first[0] is None) is (moment is half_applied)
    assert str(waiting[0].value) == "another reload has taken the place of this one"
    assert running_labels(server) == labels(listeners(1, 4))
    assert sockets_open() == before


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (listener("tcp", "127.0.0.1:0", "nosuch"), ConfigurationError),
        (listener("tcp", "192.0.2.1:0", "echo"), AddressUnavailable),
    ],
)
@pytest_twisted.ensureDeferred
async def test_f90_what_fails_over_turns_changes_nothing(started, last, error):
    """Sockets that the plan has opened are closed."""
    server = started(Server(reactor, listeners(2, 1)))
    before, running = sockets_open(), server.listeners
    outcome = begin(server, [*listeners(NUMBER, 2), last])
    await until(lambda: outcome)
    assert outcome[0].check(error)
    assert (server.listeners, sockets_open()) == (running, before)


@pytest_twisted.ensureDeferred
async def test_an_address_that_becomes_narrower_is_free_within_one_turn_only(started):
    """No other turn comes between the end of the old listener and the new ones."""
    port = free_port()
    old = listener("tcp", f"0.0.0.0:{port}", "echo")
    new = [listener("tcp", f"127.0.0.{number}:{port}", "echo") for number in (1, 2)]
    server = started(Server(reactor, [old, *listeners(NUMBER, 1)]))
    outcome, seen = begin(server, [*listeners(NUMBER, 2), *new]), []

    def look():
        on_port = [each.host for each in server.listeners if each.port == port]
        seen.append(on_port)
        return outcome

    await until(look)
    assert outcome == [None]
    assert {tuple(hosts) for hosts in seen} == {("0.0.0.0",), ("127.0.0.1", "127.0.0.2")}


@pytest_twisted.ensureDeferred
async def test_f132_a_program_reloads_without_a_look_up_in_the_reactors_thread(
    started, monkeypatch
):
    """A configuration that was not checked is checked in a thread of the reactor."""
    threads = []
    really = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **keywords):
        threads.append(threading.current_thread() is threading.main_thread())
        return really("127.0.0.1", *arguments, **keywords)

    server = started(Server(reactor, listeners(1, 1)))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    named = Configuration((listener("tcp", "one.example:0", "echo"),))
    await server.reload_in_turns(named).addTimeout(TIMEOUT, reactor)
    assert threads == [False]
    assert [each.host for each in server.listeners] == ["127.0.0.1"]


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_run_is_not_reloaded_over_turns(started):
    """The Deferred has the error; the method raises nothing."""
    server = Server(reactor, listeners(1, 1))
    outcome = begin(server, listeners(1, 2))
    assert str(outcome[0].value) == "the server is not running"


def test_a_server_in_memory_reloads_over_turns():
    """Its reactor has no threads, and its addresses need no look-up."""
    server = MemoryServer("echo")
    [settings] = server.server.configuration.listeners
    outcome = []
    new = Configuration((evolve(settings, service="discard"),))
    server.server.reload_in_turns(new).addBoth(outcome.append)
    server.settle()
    assert outcome == [None]
