"""Faults of datagrams that take a process: floods, and senders that no client is."""

import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from tests.process import needs
from tests.process.peers import exchange, tcp, udp
from tests.process.running import PATIENCE, Running
from tests.process.starts import SERVE

SERVERS_PORTS = [1, 7, 9, 13, 17, 19, 37, 53, 123, 1023, 2049]


def forge(source_port: int, port: int, data: bytes) -> None:
    """Send a datagram to loopback from any source port at all, also from 0."""
    needs.root()
    header = struct.pack("!HHHH", source_port, port, 8 + len(data), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
        sock.sendto(header + data, ("127.0.0.1", 0))


@pytest.mark.parametrize("ports", ["0-1023,2049", "none"])
def test_f29_source_port_0_is_never_served(ports: str, tmp_path: Path) -> None:
    """Nobody can be answered there: the datagram is dropped, whatever list is given."""
    command = [*SERVE.command, "--udp", "0", "--refuse-source-ports", ports]
    with Running(command, tmp_path) as server:
        forge(0, server.port("udp"), b"hello")
        server.wait_for(r"dropped a datagram of 127\.0\.0\.1:0: it seems to come from a server")
        with udp(server.port("udp")) as client:
            assert exchange(client, b"next") == b"next"
        assert server.stop() == 0
        assert server.output.count("Got data from") == 1


def test_f30_what_seems_to_come_from_a_server_is_dropped_and_counted(tmp_path: Path) -> None:
    """Well-known ports, NFS, and the ports that this server serves itself get no answer."""
    command = [*SERVE.command, "--udp", "127.0.0.1:0", "--udp", "discard=127.0.0.1:0"]
    with Running(command, tmp_path) as server:
        echo, discard = server.port("udp", 1), server.port("udp", 2)
        for port in (*SERVERS_PORTS, echo, discard):
            forge(port, echo, b"hello")
        with udp(echo) as client:
            assert exchange(client, b"next") == b"next"
        assert server.stop() == 0
        assert server.output.count("Got data from") == 1
        server.wait_for(rf"{len(SERVERS_PORTS) - 1} datagrams dropped \(source_port\)")
        server.wait_for(r"1 datagrams dropped \(own_port\)")


def test_f26_a_flood_of_empty_datagrams_leaves_time_for_others(tmp_path: Path) -> None:
    """While one sends empty datagrams as fast as it can, of 500 echoes on TCP 99 % are quick."""
    options = ["--tcp", "echo=0", "--udp", "0", "--log-rate", "0"]
    with Running([*SERVE.command, *options], tmp_path) as server:
        stop = threading.Event()
        counted = [0]

        def flood() -> None:
            with udp(server.port("udp")) as sock:
                while not stop.is_set():
                    sock.send(b"")
                    counted[0] += 1

        with tcp(server.port("tcp")) as client:
            assert exchange(client, b"hello") == b"hello"
            flooding = threading.Thread(target=flood, daemon=True)
            flooding.start()
            taken = []
            for _ in range(500):
                began = time.monotonic()
                assert exchange(client, b"hello") == b"hello"
                taken.append(time.monotonic() - began)
            stop.set()
            flooding.join(PATIENCE)
        assert counted[0] > len(taken)
        assert sorted(taken)[int(0.99 * len(taken))] < 0.1
        assert server.stop() == 0
