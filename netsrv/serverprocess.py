"""A server in a process of its own, for the tests of its clients: the parent's side.

Any test can use it, and needs no Twisted: nothing of it is imported here.  The other end
is `netsrv.child`; when this process is gone, in whatever way, that one ends by itself.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

PATIENCE = 30.0
"""Seconds in which a server must be ready, and must answer."""

GRACE = 10.0
"""Seconds that a server may take to end, before it is killed."""

LOG_PATIENCE = 1.0
"""Seconds that a server has to finish the lines it is at, when it is asked for its log."""

LONGEST_LOG = 2**20
"""Bytes of the log that are shown: the last ones."""

_CHILD = (
    "import sys; sys.path[:] = sys.argv[2:]; from netsrv.child import main; main(int(sys.argv[1]))"
)
"""The child imports as its parent does, be it from where only a test's settings lead."""

servers: "list[ServerProcess]" = []
"""The servers of this process that were started and not yet forgotten, the stopped ones too."""


class ServerError(Exception):
    """A server could not be started, or has ended by itself; the text says why."""


@dataclass(frozen=True)
class ConnectionSeen:
    """A connection as the server has seen it."""

    peer: str
    """The client's address, as in ``127.0.0.1:40000``."""
    received: int
    """Bytes that the client has sent, remembered or not."""
    sent: int
    """Bytes that the service has written; once it has ended, those that went out."""
    ending: str | None
    """Why it ended, as in ``peer``, ``service``, ``reset`` or ``idle_timeout``; None while live."""


class ListenerSeen:
    """One listener of a server, and what has happened there."""

    def __init__(self, server: "ServerProcess", index: int, told: dict[str, Any]) -> None:
        self.transport: str = told["transport"]
        """``tcp``, ``udp`` or ``unix``."""
        self.service: str = told["service"]
        address = told["address"]
        self.address: Any = address if isinstance(address, str) else tuple(address)
        """What ``socket.connect`` takes: host and port, or the path of a unix socket."""
        self._server = server
        self._index = index

    @property
    def host(self) -> str:
        """The address without its port; of a unix socket, its path."""
        return str(self.address if self.transport == "unix" else self.address[0])

    @property
    def port(self) -> int:
        """The port.  Raises ValueError for a unix socket, which has none."""
        if self.transport == "unix":
            raise ValueError(f"the unix socket {self.address} has no port")
        return int(self.address[1])

    @property
    def connections(self) -> list[ConnectionSeen]:
        """The connections in the order of their acceptance, the first 1,000."""
        return [ConnectionSeen(*each) for each in self._record()["connections"]]

    @property
    def received(self) -> list[bytes]:
        """The bytes of each connection, or the datagrams, in their order.

        At most the first 1,000 connections with 1 MiB each, or the first 10,000 datagrams
        with 16 MiB together; `cut` tells whether there was more.
        """
        return [b64decode(each) for each in self._record()["received"]]

    @property
    def cut(self) -> bool:
        """Whether more has come than `connections` and `received` have room for."""
        return bool(self._record()["cut"])

    def wait_for_connections(self, count: int, timeout: float = 10.0) -> None:
        """Wait until *count* connections were accepted since the start, live ones or not.

        Raises TimeoutError after *timeout* seconds.
        """
        self._wait(count, timeout, "connections", "accepted")

    def wait_for_datagrams(self, count: int, timeout: float = 10.0) -> None:
        """Wait until *count* datagrams were served since the start.

        Raises TimeoutError after *timeout* seconds.
        """
        self._wait(count, timeout, "datagrams", "served")

    def _wait(self, count: int, timeout: float, what: str, done: str) -> None:
        __tracebackhide__ = True
        if (what == "datagrams") != (self.transport == "udp"):
            raise ValueError(f"{self._server.name}: there are no {what} on {self.transport}")
        try:
            self._server.ask(timeout, listener=self._index, count=count)
        except TimeoutError:
            record = self._record()
            raise TimeoutError(
                f"{self._server.name}: {record['count']} {what} instead of {count} were {done} "
                f"within {timeout:g} s; the client is to use {self.address}, and the server's "
                f"log ends with:\n{self._server.log_end()}"
            ) from None

    def _record(self) -> dict[str, Any]:
        __tracebackhide__ = True
        return self._server.record(self._index)


class ServerProcess:
    """A server that runs in a process of its own; what has no listener named is of the first."""

    def __init__(self, name: str) -> None:
        self.name = name
        """How the server was asked for, for messages."""
        self.listeners: list[ListenerSeen] = []
        """All listeners, in the order of the configuration."""
        self._log_file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._log: str | None = None
        self._last: list[dict[str, Any]] | None = None
        self._answers: dict[int, SimpleQueue[Any]] = {}
        self._first: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()
        self._next_id = 0
        self._ended = False
        self._control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-c", _CHILD, str(theirs.fileno()), *map(str, sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=self._log_file,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )
            """The process, for tests that want to do something to it."""
        self._reader = threading.Thread(target=self._read, name="netsrv answers", daemon=True)
        self._reader.start()

    # What is served

    @property
    def host(self) -> str:
        """The first listener's; see `ListenerSeen`, as for the rest."""
        return self.listeners[0].host

    @property
    def port(self) -> int:
        """The first listener's."""
        return self.listeners[0].port

    @property
    def address(self) -> Any:
        """The first listener's."""
        return self.listeners[0].address

    @property
    def connections(self) -> list[ConnectionSeen]:
        """The first listener's."""
        return self.listeners[0].connections

    @property
    def received(self) -> list[bytes]:
        """The first listener's."""
        return self.listeners[0].received

    @property
    def cut(self) -> bool:
        """The first listener's."""
        return self.listeners[0].cut

    def wait_for_connections(self, count: int, timeout: float = 10.0) -> None:
        """Wait at the first listener."""
        __tracebackhide__ = True
        self.listeners[0].wait_for_connections(count, timeout)

    def wait_for_datagrams(self, count: int, timeout: float = 10.0) -> None:
        """Wait at the first listener."""
        __tracebackhide__ = True
        self.listeners[0].wait_for_datagrams(count, timeout)

    @property
    def log(self) -> str:
        """The server's log so far, with all that it has printed; at most the last MiB."""
        if self.listeners and not self._ended:
            with suppress(TimeoutError, ServerError):  # a service that blocks has a log too
                self.ask(LOG_PATIENCE, listener=0)
        return self._read_log()

    def _read_log(self) -> str:
        """Give what is written by now."""
        if self._log is not None:
            return self._log
        size = os.fstat(self._log_file.fileno()).st_size
        begin = max(0, size - LONGEST_LOG)
        return os.pread(self._log_file.fileno(), size - begin, begin).decode(errors="replace")

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._log is not None

    def log_end(self) -> str:
        """Give the last lines of the log."""
        return "\n".join(self._read_log().splitlines()[-20:])

    def stop(self) -> None:
        """End the server, and wait until it is gone; what it has seen can still be read."""
        if self._log is not None:
            return
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        try:
            self._reader.join(GRACE)  # until the child has closed its end
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.0 if self._reader.is_alive() else GRACE)
        finally:
            self.process.kill()  # which is nothing for one that has ended
            self.process.wait()
            with suppress(OSError):
                self._control.shutdown(socket.SHUT_RD)  # a child of the child may have it
            self._reader.join()
            self._control.close()
            self._log = self._read_log()
            self._log_file.close()
            self._remove_folders()

    def _remove_folders(self) -> None:
        """Remove what the child has made for a unix socket that was to be anywhere."""
        for each in self.listeners:
            folder, name = os.path.split(each.host)
            if name == "socket" and os.path.basename(folder).startswith("netsrv-"):
                shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # How it is done

    def start(self, order: dict[str, Any]) -> None:
        """Give the order, and wait until it is served.  Raises `ServerError`."""
        __tracebackhide__ = True
        self._send(order)
        try:
            answer = self._first.get(timeout=PATIENCE)
        except Empty:
            raise ServerError(f"{self.name}: is not ready after {PATIENCE:g} s") from None
        if answer is None:
            raise self._gone("before it was ready")
        if "error" in answer:
            raise ServerError("\n".join(answer["error"]))
        told = answer["listeners"]
        self.listeners = [ListenerSeen(self, index, each) for index, each in enumerate(told)]

    def ask(self, timeout: float, **question: Any) -> Any:
        """Ask the child, and give its answer.  Raises TimeoutError, or `ServerError`."""
        __tracebackhide__ = True
        answers: SimpleQueue[Any] = SimpleQueue()
        with self._lock:
            self._next_id += 1
            number = self._next_id
            self._answers[number] = answers
        if self._ended:
            answers.put(None)
        self._send({"id": number, **question})
        try:
            answer = answers.get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"{self.name}: no answer within {timeout:g} s") from None
        finally:
            self._answers.pop(number, None)
        if answer is None:
            raise self._gone("while it was needed")
        return answer

    def record(self, index: int) -> dict[str, Any]:
        """Give what has happened at a listener.  Raises `ServerError` if nobody knows."""
        __tracebackhide__ = True
        if self._last is None:
            record: dict[str, Any] = self.ask(PATIENCE, listener=index)["record"]
            return record
        return self._last[index]

    def _gone(self, when: str) -> ServerError:
        try:
            status = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            status = None
        return ServerError(
            f"{self.name}: the server has ended {when} (exit status {status}); its log ends "
            f"with:\n{self.log_end()}"
        )

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError), self._lock:  # who has gone is noticed by the reader
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def _read(self) -> None:
        """Take the child's answers, until it is gone."""
        with suppress(OSError), self._control.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "last" in message:
                    self._last = message["last"]
                elif "id" in message:
                    waiting = self._answers.get(message["id"])
                    if waiting is not None:
                        waiting.put(message)
                else:
                    self._first.put(message)
        self._ended = True
        self._first.put(None)
        for each in list(self._answers.values()):
            each.put(None)


def start_server(
    service: str | None = None,
    *,
    transport: str = "tcp",
    config: str | None = None,
    **options: Any,
) -> ServerProcess:
    """Serve in a process of its own, on a free port of 127.0.0.1; it is ready when this returns.

    Use it in a ``with`` statement, or call `ServerProcess.stop`.

    *service* is the name of one, or ``module:name`` of your own: a service, a Factory, a
    Protocol or a DatagramProtocol, or a class of these.  *transport* is ``tcp``, ``udp`` or
    ``unix``.  *options* are the keys of a listener in a file, limits and access among them,
    as ``max_connections=1, overload="reset"``.  Or *config* is the text of a file, with as
    many listeners as you like; one without an address gets a free port.  Raises
    `ServerError` with what would be right.
    """
    __tracebackhide__ = True
    if (service is None) == (config is None):
        raise ServerError("netsrv_server: either a service or config=... would be right")
    if config is not None and (options or transport != "tcp"):
        raise ServerError("netsrv_server: where there is config=..., all options stand in it")
    if service is not None and not isinstance(service, str):
        raise ServerError(f"netsrv_server: {service!r}: a text, 'name' or 'module:name'")
    order = {"service": service, "transport": transport, "config": config, "options": options}
    try:
        json.dumps(order)
    except (TypeError, ValueError) as error:
        raise ServerError(f"netsrv_server: options are values as TOML has them: {error}") from None
    server = ServerProcess(service or "config")
    servers.append(server)
    try:
        server.start(order)
    except BaseException:
        server.stop()
        raise
    return server
