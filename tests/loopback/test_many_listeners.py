"""Many listeners: a start, a change, a reload and an end cost each of them the same."""

import socket
import sys
import threading

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from netsrv.config import Configuration, listener
from netsrv.registry import find_services
from netsrv.server.checked import check_configuration
from netsrv.server.server import Server
from tests.clients import ask
from tests.timeouts import TIMEOUT

FEW, MANY = 25, 100

TOLERANCE = 1.15
"""By how much the calls for each of many listeners may exceed those for each of few."""


def calls_of(function):
    """Return how many functions a call calls, in all, and its result."""
    count = 0

    def see(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        result = function()
    finally:
        sys.setprofile(None)
    return count, result


def listeners(number, service="echo", first=1):
    """Return listeners, half of them on TCP, each on an address of its own."""
    hosts = [f"127.1.{index // 250}.{index % 250 + 1}" for index in range(first, number + first)]
    return [
        listener("udp" if index % 2 else "tcp", f"{host}:0", service)
        for index, host in enumerate(hosts)
    ]


async def costs(number):
    """Return the calls of each act, with this many listeners."""
    registry = find_services()
    settings = listeners(number)
    server = Server(reactor, settings)
    calls = {}
    calls["start"], _ = calls_of(server.startService)
    same = Configuration(tuple(listeners(number)))
    calls["check"], _ = calls_of(lambda: check_configuration(same, settings, registry))
    calls["reload the same"], _ = calls_of(lambda: server.reload(same, registry))
    other = Configuration(tuple(listeners(number, "discard")))
    calls["reload others"], _ = calls_of(lambda: server.reload(other, registry))
    new = Configuration(tuple(listeners(number, first=number + 1)))
    calls["replace all"], _ = calls_of(lambda: server.reload(new, registry))
    added = listeners(number, first=2 * number + 1)
    calls["add"], _ = calls_of(lambda: [server.add_listener(each) for each in added])
    calls["remove"], closed = calls_of(lambda: [server.remove_listener(each) for each in added])
    for each in closed:
        await each
    calls["end"], ended = calls_of(server.stopService)
    await ended.addTimeout(TIMEOUT, reactor)
    return calls


@pytest_twisted.ensureDeferred
async def test_f133_each_act_is_linear_in_the_number_of_listeners():
    """Four times as many listeners make four times as many calls, in every act."""
    await costs(2)  # imports, caches
    few, many = await costs(FEW), await costs(MANY)
    ratios = {act: many[act] / few[act] / (MANY / FEW) for act in few}
    assert {act: ratio for act, ratio in ratios.items() if ratio > TOLERANCE} == {}


@pytest_twisted.ensureDeferred
async def test_own_ports_are_counted(started):
    """Two listeners on one port: it is our own until the second is closed too."""
    server = started(Server(reactor, [listener("udp", "127.0.0.1:0", "echo")]))
    first = server.listeners[0]
    port = first.port
    second = server.add_listener(listener("udp", f"127.0.0.2:{port}", "echo"))
    own = server._listeners._own_ports
    assert port in own
    await first.close()
    assert port in own
    await second.close()
    assert port not in own


@pytest_twisted.ensureDeferred
async def test_f132_a_reload_that_was_checked_looks_up_no_name_in_its_turn(
    started, client, monkeypatch
):
    """Names of new, changed and moved listeners: the answers of the thread are used."""
    lookups = []
    really = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **keywords):
        if threading.current_thread() is threading.main_thread():
            lookups.append(host)
        return really("127.0.0.1", *arguments, **keywords)

    server = started(Server(reactor, [listener("tcp", "127.0.0.1:0", "echo")]))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    port = server.listeners[0].port
    configuration = evolve(
        server.configuration,
        listeners=(
            listener("tcp", "one.example:0", "daytime"),
            listener("udp", "two.example:same", "echo"),
            listener("tcp", f"three.example:{port}", "echo", reuse_port=True),
        ),
    )
    running = [each.settings for each in server.listeners]
    checked = await deferToThread(check_configuration, configuration, running, find_services())
    server.reload(checked)
    assert lookups == []
    assert [each.host for each in server.listeners] == ["127.0.0.1"] * 3
    [datagrams] = (each for each in server.sockets if each.sock.type == socket.SOCK_DGRAM)
    assert await client(ask, datagrams, b"new") == [b"new"]


@pytest.mark.parametrize("number", [1, 3])
@pytest_twisted.ensureDeferred
async def test_a_listener_is_found_by_its_settings_or_by_equal_ones(number, started):
    """Of equal ones, the very object is preferred; other settings have none."""
    settings = [listener("tcp", "127.0.0.1:0", "echo") for _ in range(number)]
    server = started(Server(reactor, settings))
    found = [server.listener_for(each) for each in settings]
    assert all(one.settings is each for one, each in zip(found, settings, strict=True))
    assert server.listener_for(listener("tcp", "127.0.0.1:0", "echo")) is found[0]
    with pytest.raises(LookupError):
        server.listener_for(listener("tcp", "127.0.0.2:0", "echo"))
