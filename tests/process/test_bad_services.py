"""Services that raise while they serve: an error costs its own peer, and no other."""

import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.clients import exchange, read_all, talk, tcp, udp
from tests.process import thirdparty
from tests.process.running import Running
from tests.process.starts import SERVE

SERVICES = """
class Raising(Protocol):
    def connectionMade(self):
        self.fail("connectionMade")

    def dataReceived(self, data):
        self.fail("dataReceived")
        self.transport.write(data)

    def connectionLost(self, reason):
        self.fail("connectionLost")

    def fail(self, where):
        if where == self.where and self.factory.faults:
            self.factory.faults -= 1
            raise self.error(f"{where} has no luck")


class RaisingDatagrams(DatagramProtocol):
    error = RuntimeError

    def datagramReceived(self, datagram, address):
        if datagram == b"raise":
            raise self.error("datagramReceived has no luck")
        self.transport.write(datagram, address)


class RaisingFactory(Factory):
    noisy = False
    faults = 1

    def buildProtocol(self, address):
        if self.where == "buildProtocol" and self.faults:
            self.faults -= 1
            if self.error is None:
                return None
            raise self.error("buildProtocol has no luck")
        protocol = super().buildProtocol(address)
        protocol.where, protocol.error = self.where, self.error
        return protocol


class RaisingService(Service):
    def __init__(self, name, where, error):
        super().__init__(name)
        self.where, self.error = where, error

    def stream(self, settings):
        factory = RaisingFactory.forProtocol(Raising)
        factory.where, factory.error = self.where, self.error
        return factory

    def datagram(self, settings):
        protocol = RaisingDatagrams()
        protocol.error = self.error
        return protocol


no_protocol = RaisingService("no-protocol", "buildProtocol", None)
build = RaisingService("build", "buildProtocol", RuntimeError)
made = RaisingService("made", "connectionMade", RuntimeError)
data = RaisingService("data", "dataReceived", RuntimeError)
lost = RaisingService("lost", "connectionLost", RuntimeError)
build_exit = RaisingService("build-exit", "buildProtocol", SystemExit)
made_exit = RaisingService("made-exit", "connectionMade", SystemExit)
data_exit = RaisingService("data-exit", "dataReceived", SystemExit)
made_oserror = RaisingService("made-oserror", "connectionMade", OSError)
answers = RaisingService("answers", None, RuntimeError)
answers_exit = RaisingService("answers-exit", None, SystemExit)
"""

STREAMS = {
    "build": "RuntimeError: buildProtocol has no luck",
    "made": "RuntimeError: connectionMade has no luck",
    "data": "RuntimeError: dataReceived has no luck",
    "lost": "RuntimeError: connectionLost has no luck",
    "build-exit": "SystemExit: buildProtocol has no luck",
    "made-exit": "SystemExit: connectionMade has no luck",
    "data-exit": "SystemExit: dataReceived has no luck",
    "made-oserror": "OSError: connectionMade has no luck",
}
"""Each stream service, and what its first connection logs; later connections are served."""

DATAGRAMS = {"answers": "RuntimeError", "answers-exit": "SystemExit"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server with all these services."""
    folder = tmp_path_factory.mktemp("services")
    thirdparty.services(folder, SERVICES)
    streams = [f"--tcp={name}=127.0.0.1:0" for name in [*STREAMS, "no-protocol"]]
    datagrams = [f"--udp={name}=127.0.0.1:0" for name in DATAGRAMS]
    command = [*SERVE.command, *streams, *datagrams]
    with Running(command, folder, thirdparty.on_path(folder)) as running:
        running.port("udp", len(DATAGRAMS))
        yield running


def port(server: Running, transport: str, service: str) -> int:
    """Return the port of a service."""
    return int(server.wait_for(rf"on {transport} 127\.0\.0\.1:(\d+) \({service}\)$")[1])


@pytest.mark.parametrize("service", STREAMS)
def test_f19_f20_f21_only_its_own_connection_ends(service, server):
    """A stream service that raises loses that connection, with a log entry, and serves the next."""
    number = port(server, "tcp", service)
    with suppress(ConnectionError):
        talk(tcp(number), b"hello")
    server.wait_for(rf"\b{STREAMS[service]}$")
    for _ in range(2):
        with tcp(number) as lucky:
            assert exchange(lucky, b"hello") == b"hello"


def test_f19_no_protocol(server):
    """A factory that returns no protocol loses that connection, and serves the next."""
    number = port(server, "tcp", "no-protocol")
    with tcp(number) as refused:
        assert read_all(refused) == b""
    assert talk(tcp(number), b"hello") == b"hello"


@pytest.mark.parametrize("service", DATAGRAMS)
def test_f40_the_next_datagram_is_served(service, server):
    """A datagram service that raises logs a traceback, and serves the next datagram."""
    with udp(port(server, "udp", service)) as client:
        client.send(b"raise")
        server.wait_for(rf"\b{DATAGRAMS[service]}: datagramReceived has no luck$")
        assert exchange(client, b"hello") == b"hello"


def test_f21_one_traceback_a_minute(tmp_path, serve):
    """A service that raises on each connection logs one traceback; the others are counted."""
    body = """
    class Always(Protocol):
        def dataReceived(self, data):
            raise RuntimeError("no luck today")

    always = Service("always", Always)
    """
    thirdparty.services(tmp_path, body)
    server = serve("--tcp", "always=127.0.0.1:0", env=thirdparty.on_path(tmp_path))
    for _ in range(20):
        with suppress(ConnectionError):
            talk(tcp(server.port("tcp")), b"hello")
    assert server.stop() == 0
    assert server.output.count("Traceback") == 1
    counted = re.findall(r"(\d+) exceptions in dataReceived", server.output)
    assert sum(map(int, counted)) == 19
