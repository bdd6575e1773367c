"""A server in a process of its own, for the tests of its clients: the child's side.

`netsrv.serverprocess` starts it with a socket, on which each message is a line of JSON:

- the order comes first: ``config``, the text of a file; or ``service``, ``transport`` and
  ``options``, keys of a listener with their values;
- the answer is ``listeners``, when all of them are served, or ``error`` with its lines;
- then there are questions: ``id``, ``listener`` (an index), and ``count`` for "tell me when
  there were so many"; answered with the same ``id``;
- when the socket has come to its end, because the parent wants it, or has crashed, or was
  killed, all connections are aborted, ``last`` tells all records, and the process ends.
"""

import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.logger import globalLogBeginner, textFileLogObserver
from zope.interface import implementer

from netsrv.addresses import printable
from netsrv.config import Configuration, ConfigurationError, from_command_line
from netsrv.interfaces import IDatagramService, IService, IStreamService
from netsrv.preparation import prepare
from netsrv.recording import Record, Recorder
from netsrv.registry import Registry, find_services
from netsrv.server import Server
from netsrv.sockets import SocketError

LOOPBACK = "127.0.0.1:0"

PLACE = "netsrv_server"
"""How messages name what the test has asked for."""

GRACE = 5.0
"""Seconds that an end in good order may take: a service may have blocked the reactor."""

QUIET_TURNS = 4
"""Turns of the reactor without news after which everything that has come is counted in: an
accept, a read and a close take a turn each."""

MOST_TURNS = 1000
"""Turns after which an answer is given although news still comes."""


# What is served


@implementer(IStreamService, IDatagramService)
class PlainService:
    """A Factory or a protocol by itself, made a service."""

    description = "given by the test"
    settings = None

    def __init__(self, name: str, given: Any) -> None:
        self.name = name
        self._given = given

    def stream(self, settings: Any) -> Any:
        given = self._given
        if isinstance(given, type) and issubclass(given, Protocol):
            return Factory.forProtocol(given)
        return given() if isinstance(given, type) else given

    def datagram(self, settings: Any) -> Any:
        return self._given() if isinstance(self._given, type) else self._given


def service_at(path: str) -> Any:
    """Import what ``module:name`` names; a class of services is called without arguments.

    Raises `ConfigurationError`.
    """
    module, _, names = path.partition(":")
    service: Any = IService
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
        if isinstance(found, type) and service.implementedBy(found):
            found = found()
    except (Exception, SystemExit) as error:
        sys.excepthook(type(error), error, error.__traceback__)  # the log has it all
        raise ConfigurationError(
            f"{PLACE}: {path!r} cannot be used: {type(error).__name__}: {error}"
        ) from error
    if service.providedBy(found):
        return found
    if isinstance(found, type) and issubclass(found, Protocol | DatagramProtocol | Factory):
        return PlainService(path, found)
    if isinstance(found, Factory | DatagramProtocol):
        return PlainService(path, found)
    raise ConfigurationError(
        f"{PLACE}: {path!r} is {found!r}: a service, a Factory, a Protocol or a DatagramProtocol "
        "would be right, or a class of these"
    )


def configuration_of(order: dict[str, Any], registry: Registry) -> Configuration:
    """Make the configuration that the test wants.  Raises `ConfigurationError`."""
    service, transport = order["service"], order["transport"]
    if service in registry.services and transport in ("tcp", "udp") and not order["options"]:
        # Without cattrs, which takes its time to be imported.
        return from_command_line([(transport, f"{service}={LOOPBACK}")])
    from netsrv.configfile import make_configuration, parse_document

    if order["config"] is None:
        document = document_of(order)
    else:
        document = parse_document(order["config"], PLACE)
    for table in _tables(document):
        if not {"tcp", "udp", "unix"} & table.keys():
            table["tcp"] = LOOPBACK
        name = table.get("service")
        if isinstance(name, str) and ":" in name:
            registry.services[name] = service_at(name)
    configuration = make_configuration(document, registry, PLACE)
    if not configuration.listeners:
        raise ConfigurationError(f"{PLACE}: nothing to serve: config has no [[listener]]")
    return configuration


def document_of(order: dict[str, Any]) -> dict[str, Any]:
    """Put options where a file has them.  Raises `ConfigurationError`."""
    from attrs import fields_dict

    from netsrv.configfile import AccessTable, FileTable, ListenerTable
    from netsrv.limits import Limits

    transport = order["transport"]
    if transport not in ("tcp", "udp", "unix"):
        raise ConfigurationError(f"{PLACE}: transport: {transport!r}: one of 'tcp', 'udp', 'unix'")
    address = _socket_path() if transport == "unix" else LOOPBACK
    listener: dict[str, Any] = {"service": order["service"], transport: address}
    document: dict[str, Any] = {"listener": [listener]}
    for name, value in order["options"].items():
        if name in fields_dict(AccessTable):
            listener.setdefault("access", {})[name] = value
        elif name in fields_dict(Limits):
            listener.setdefault("limits", {})[name] = value
        elif name in fields_dict(FileTable) and name != "listener":
            document[name] = value
        elif name in fields_dict(ListenerTable):
            listener[name] = value
        else:
            raise ConfigurationError(
                f"{PLACE}: {name}: there is no such option; a file's keys would be right, "
                "as max_connections or settings"
            )
    return document


def _socket_path() -> str:
    """Give a path in a new folder, which the parent removes."""
    return os.path.join(tempfile.mkdtemp(prefix="netsrv-"), "socket")


def _tables(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    found = document.get("listener")
    for each in found if isinstance(found, list) else ():
        if isinstance(each, dict):
            yield each


# What is told


class Reporter:
    """Answers questions about *server* with *send*, in the reactor's thread."""

    def __init__(self, reactor: Any, send: Callable[[dict[str, Any]], None]) -> None:
        self.recorder = Recorder(self._changed)
        self._reactor = reactor
        self._send = send
        self._names: list[str] = []
        self._news = 0
        self._waiting: list[dict[str, Any]] = []

    def begin(self, server: Server) -> None:
        """Tell what is served, and where."""
        posts = server.posts
        self._names = [each.prepared.name for each in posts]
        self._send(
            {
                "listeners": [
                    {
                        "transport": each.prepared.settings.transport,
                        "service": each.prepared.settings.service,
                        "address": _address(each.prepared.socket.sockaddr),
                    }
                    for each in posts
                ]
            }
        )

    def ask(self, question: dict[str, Any]) -> None:
        """Answer a question, now or when it is time."""
        if "count" in question:
            self._waiting.append(question)
            self._tell_waiting()
        else:
            self._when_quiet(partial(self._tell, question), QUIET_TURNS, MOST_TURNS)

    def last(self) -> None:
        """Tell everything."""
        self._send({"last": [_shown(self._record(index)) for index in range(len(self._names))]})

    def _record(self, index: int) -> Record:
        return self.recorder.records[self._names[index]]

    def _tell(self, question: dict[str, Any]) -> None:
        record = _shown(self._record(question["listener"]))
        self._send({"id": question["id"], "record": record})

    def _changed(self) -> None:
        self._news += 1
        if self._waiting:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if self._record(each["listener"]).count >= each["count"]:
                self._send({"id": each["id"]})
            else:
                self._waiting.append(each)

    def _when_quiet(self, then: Callable[[], None], quiet: int, turns: int) -> None:
        """Let the reactor take in what has come by now, and what follows from it at once."""
        if not (quiet and turns):
            then()
            return
        before = self._news

        def look() -> None:
            left = quiet - 1 if self._news == before else QUIET_TURNS
            self._when_quiet(then, left, turns - 1)

        self._reactor.callLater(0, look)


def _address(sockaddr: Any) -> Any:
    return os.fsdecode(sockaddr) if isinstance(sockaddr, str | bytes) else list(sockaddr[:2])


def _shown(record: Record) -> dict[str, Any]:
    for each in record.connections:
        each.look()
    return {
        "count": record.count,
        "cut": record.cut,
        "connections": [
            [each.peer, each.received, each.sent, each.ending] for each in record.connections
        ],
        "received": [
            b64encode(each).decode()
            for each in (record.datagrams or [bytes(one.data) for one in record.connections])
        ],
    }


# The process


class Control(threading.Thread):
    """The socket to the parent, and who reads it; at its end the process ends, whatever it does.

    A thread, since a service may block the reactor, or its import, for ever.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="questions", daemon=True)
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._lines = self._socket.makefile("r", encoding="ascii")
        self._reactor: Any = None
        self._ask: Callable[[dict[str, Any]], None]
        self._end: Callable[[], None]

    def read(self) -> Any:
        """Wait for a message; None at the end."""
        return json.loads(self._lines.readline() or "null")

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; if nobody is there any more, the reader sees it too."""
        with suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def answer(
        self, reactor: Any, ask: Callable[[dict[str, Any]], None], end: Callable[[], None]
    ) -> None:
        """Hand questions to *ask*, and their end to *end*, in the reactor's thread."""
        self._ask, self._end, self._reactor = ask, end, reactor

    def run(self) -> None:
        with suppress(OSError, ValueError):  # the parent was cut short
            while (question := self.read()) is not None:
                self._reactor.callFromThread(self._ask, question)
        if self._reactor is not None:
            self._reactor.callFromThread(self._end)
        threading.Event().wait(GRACE)
        os._exit(1)


def main(descriptor: int) -> None:
    """Serve what is ordered on the socket *descriptor*, until that has come to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Control-C is the parent's affair
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    control = Control(descriptor)
    order = control.read()
    control.start()
    try:
        registry = find_services()
        configuration = configuration_of(order, registry)
        prepared = prepare(configuration, registry)
    except (ConfigurationError, SocketError) as error:
        control.send({"error": [printable(line) for line in str(error).splitlines()]})
        return
    from twisted.internet import reactor

    reporter = Reporter(reactor, control.send)
    recorder = reporter.recorder
    server = Server(reactor, configuration, recorder.recording(prepared), (recorder,))
    server.startService()
    control.answer(reactor, reporter.ask, partial(_end, reactor, server, reporter))
    reactor.callWhenRunning(reporter.begin, server)
    reactor.run(False)  # type: ignore[call-arg]  # no signal handlers


def _end(reactor: Any, server: Server, reporter: Reporter) -> None:
    """Abort all connections, tell everything, and stop."""
    server.abort()
    ended = server.stopService()
    ended.addCallback(lambda _: reporter.last())
    ended.addBoth(lambda _: reactor.stop())
