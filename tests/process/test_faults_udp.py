"""Faults of datagrams that take a process: floods, and forged senders."""

import errno
import socket
import struct
import sys
import time
from statistics import median

import pytest

from tests.clients import exchange, tcp, udp
from tests.process import needs, sandbox, thirdparty
from tests.process.running import Running
from tests.process.starts import EPOLL, SERVE

pytestmark = pytest.mark.version_independent

SERVERS_PORTS = [1, 7, 9, 13, 17, 19, 37, 53, 123, 1023, 2049]


def forge(source_port: int, port: int, data: bytes) -> None:
    """Send a datagram to loopback from any source port, even 0."""
    needs.root()
    header = struct.pack("!HHHH", source_port, port, 8 + len(data), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
        sock.sendto(header + data, ("127.0.0.1", 0))


@pytest.mark.parametrize("ports", ["0-1023,2049", "none"])
def test_f29_source_port_0_is_never_served(ports, serve):
    """Port 0 cannot be answered: its datagrams are dropped, whatever the list of ports."""
    server = serve("--udp", "0", "--refuse-source-ports", ports)
    forge(0, server.port("udp"), b"hello")
    server.wait_for(r"dropped a datagram from 127\.0\.0\.1:0: its source port is one of a server")
    with udp(server.port("udp")) as client:
        assert exchange(client, b"next") == b"next"
    assert server.stop() == 0
    assert server.output.count("Got data from") == 1


def test_f30_what_seems_to_come_from_a_server_is_dropped_and_counted(serve):
    """Well-known ports, NFS, and this server's own ports get no answer."""
    server = serve("--udp", "127.0.0.1:0", "--udp", "discard=127.0.0.1:0")
    echo, discard = server.port("udp", 1), server.port("udp", 2)
    for port in (*SERVERS_PORTS, echo, discard):
        forge(port, echo, b"hello")
    with udp(echo) as client:
        assert exchange(client, b"next") == b"next"
    assert server.stop() == 0
    assert server.output.count("Got data from") == 1
    server.wait_for(rf"{len(SERVERS_PORTS) - 1} dropped datagrams \(source_port\)")
    server.wait_for(r"1 dropped datagram \(own_port\)")


FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", int(sys.argv[1])))
while True:
    sock.send(b"")
"""


def test_f26_a_flood_of_empty_datagrams_leaves_time_for_others(tmp_path, serve):
    """Under a flood of empty datagrams 1,000 echoes come back, mostly without delay."""
    options = ["--tcp", "echo=0", "--udp", "discard=0", "--log-rate", "1"]
    with serve(*options) as server, tcp(server.port("tcp")) as client:
        assert exchange(client, b"hello") == b"hello"
        with Running([sys.executable, "-c", FLOOD, str(server.port("udp"))], tmp_path):
            server.wait_for(r"Suppressed in the last second .*: \d{4,} datagrams")
            taken = []
            for _ in range(1000):
                began = time.monotonic()
                assert exchange(client, b"hello") == b"hello"
                taken.append(time.monotonic() - began)
        assert median(taken) < 0.1


def test_f35_a_service_cannot_be_made_to_answer_too_much(tmp_path, serve):
    """A third-party service's answer that is too long is dropped, and the first one logged."""
    body = """
    class Amplifier(DatagramProtocol):
        def datagramReceived(self, datagram, address):
            self.transport.write(datagram * 4, address)
            self.transport.write(b"short", address)

    amplifier = Service("amplifier", datagrams=Amplifier)
    """
    thirdparty.services(tmp_path, body)
    server = serve("--udp", "amplifier=0", env=thirdparty.on_path(tmp_path))
    with udp(server.port("udp")) as client:
        assert exchange(client, bytes(100)) == b"short"
    server.wait_for("the reply is more than three times as long as the request")
    assert server.stop() == 0


def all_echoed(port: int) -> bool:
    """Send datagrams one by one, and then a burst; return whether each one comes back."""
    with udp(port) as client:
        for number in range(50):
            assert exchange(client, b"%d" % number) == b"%d" % number
        burst = [b"burst %d" % number for number in range(50)]
        for datagram in burst:
            client.send(datagram)
        return [client.recv(100) for _ in burst] == burst


@pytest.mark.parametrize("start", [SERVE, EPOLL], ids=["serve", "epoll"])
@pytest.mark.parametrize(
    ("calls", "error"),
    [
        (("recvmmsg",), errno.ENOSYS),
        (("recvmmsg",), errno.EPERM),
        (("sendmmsg",), errno.ENOSYS),
        (("recvmmsg", "sendmmsg"), errno.EPERM),
        (("recvmmsg", "sendmmsg"), errno.EOPNOTSUPP),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "+".join(value),
)
def test_f142_a_sandbox_without_the_calls_for_many_loses_nothing(calls, error, start, serve):
    """Under a seccomp filter every datagram is answered, alone and in a burst."""
    refuse = sandbox.refusing(calls, error)
    server = serve("--udp", "127.0.0.1:0", "--udp", "time=0", start=start, preexec_fn=refuse)
    assert all_echoed(server.port("udp"))
    assert server.stop() == start.drained
    assert "dropped" not in server.output


HOOK = """
import sys


class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "_ctypes":
            raise ImportError(name)


sys.meta_path.insert(0, Hook())
"""


def test_f142_a_python_without_ctypes_serves(tmp_path, serve):
    """TCP and UDP are served, and no module of netsrv needs it."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    server = serve("--tcp", "0", "--udp", "0", env=thirdparty.on_path(tmp_path))
    assert all_echoed(server.port("udp"))
    with tcp(server.port("tcp")) as client:
        assert client.recv(1) == b""
    assert server.stop() == 0
    assert "Traceback" not in server.output
