"""Faults that take a network: many addresses, vanished peers, no IPv6."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.clients import exchange, talk, tcp, udp
from tests.process.networks import Host
from tests.process.running import Running
from tests.process.starts import each_start, finish, only_line
from tests.timeouts import CLIENT_TIMEOUT, TIMEOUT

pytestmark = pytest.mark.version_independent

MANY_IPV4 = "route add local 10.0.0.0/8 dev lo"
MANY_IPV6 = "-6 route add local 2001:db8::/32 dev lo"
IP_PKTINFO = 8
"""Of linux/in.h: where a datagram is to come from."""

IPV6_FREEBIND = 78
"""Of linux/in6.h: an address that is ours by a route alone may be bound."""


@contextmanager
def network(*commands: str) -> Iterator[Host]:
    """Create a host, set up by commands of ip(8), and run the block and its processes there."""
    host = Host()
    try:
        for each in commands:
            host.ip(each)
        with host.inside():
            yield host
    finally:
        host.close()


def connect_from(source: str, port: int) -> socket.socket:
    """Connect to one of our addresses from another one."""
    ipv6 = ":" in source
    sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET)
    sock.settimeout(TIMEOUT)
    if ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    sock.bind((source, 0))
    sock.connect(("::1" if ipv6 else "127.0.0.1", port))
    return sock


def is_served(sock: socket.socket) -> bool:
    """Send to an echo; return False if it has closed the connection."""
    try:
        return exchange(sock, b"hello") == b"hello"
    except ConnectionError:
        return False


def test_f12_all_addresses_of_one_64_share_one_limit(serve):
    """All addresses of an IPv6 /64 are one source."""
    with network(MANY_IPV6), serve("--tcp", "echo=[::]:0", "--per-source", "3") as server:
        port = server.port("tcp")
        socks = [connect_from(f"2001:db8::{number:x}:1", port) for number in range(1, 7)]
        assert [is_served(each) for each in socks] == [True] * 3 + [False] * 3
        with connect_from("2001:db8:0:1::1", port) as neighbour:
            assert is_served(neighbour)
        for each in socks:
            each.close()


def test_f13_an_ipv4_address_is_one_source_on_an_ipv6_socket(serve):
    """Limits treat `::ffff:10.0.0.1` as 10.0.0.1, not as one of a /64 of all IPv4 addresses."""
    with network(MANY_IPV4), serve("--tcp", "echo=[::]:0", "--per-source", "1") as server:
        port = server.port("tcp")
        socks = [connect_from(each, port) for each in ("10.0.0.1", "10.0.0.2", "10.0.0.1")]
        assert [is_served(each) for each in socks] == [True, True, False]
        server.wait_for(r"rejected 10\.0\.0\.1:\d+ \(--per-source\)")
        for each in socks:
            each.close()


@pytest.mark.parametrize(
    "options",
    [
        ["SO_KEEPALIVE=1", "TCP_KEEPIDLE=1", "TCP_KEEPINTVL=1", "TCP_KEEPCNT=1"],
        ["SO_KEEPALIVE=1", "TCP_KEEPIDLE=1", "TCP_KEEPINTVL=1", "TCP_USER_TIMEOUT=1000"],
    ],
    ids=["keepalive", "user timeout"],
)
def test_f24_a_peer_that_vanishes_is_found_out(options, serve):
    """A peer that is gone without FIN is detected by keepalive or the user timeout."""
    chosen = [word for each in options for word in ("--socket-option", each)]
    address = "10.0.0.1/32 dev lo"
    with (
        network(f"addr add {address}") as host,
        serve("--tcp", "echo=0", "--max-connections", "1", *chosen) as server,
    ):
        port = server.port("tcp")
        vanished = connect_from("10.0.0.1", port)
        assert is_served(vanished)
        host.ip(f"addr del {address}")
        host.ip("route add blackhole 10.0.0.1/32")
        with tcp(port) as waiting:  # the only slot is in use until the peer is detected
            assert is_served(waiting)
        assert server.stop() == 0
        vanished.close()


def answered(sock: socket.socket, port: int, sources: list[str]) -> int:
    """Send a datagram from each of these addresses, and count the echoes up to a last one.

    The last one is from this machine, which has no rate and is always answered.
    """
    for source in sources:
        info = struct.pack("=i4s4s", 0, socket.inet_aton(source), bytes(4))
        control = [(socket.IPPROTO_IP, IP_PKTINFO, info)]
        sock.sendmsg([b"x"], control, 0, ("127.0.0.1", port))
    sock.sendto(b"end", ("127.0.0.1", port))
    count = 0
    while sock.recv(10) != b"end":
        count += 1
    return count


def any_source() -> socket.socket:
    """Return a socket for `answered`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT)
    sock.bind(("", 0))
    return sock


def addresses(first: int, last: int) -> list[str]:
    """Return IPv4 addresses by their numbers in 10.0.0.0/8."""
    return [socket.inet_ntoa((0x0A000000 + each).to_bytes(4, "big")) for each in range(first, last)]


TABLE = 65_536
"""Sources of which the rates are known."""

BATCH = 64


def all_answered(sock: socket.socket, port: int, first: int, last: int) -> bool:
    """Return whether each of many sources is answered."""
    batches = [addresses(each, min(each + BATCH, last)) for each in range(first, last, BATCH)]
    return all(answered(sock, port, each) == len(each) for each in batches)


def resident(server: Running) -> int:
    """Bytes of memory that the server has in RAM."""
    fields = Path(f"/proc/{server.process.pid}/statm").read_text().split()
    return int(fields[1]) * 4096


def test_f14_a_full_table_rejects_new_sources_and_leaves_ipv6_alone(serve):
    """While no known source is quiet, a new one is rejected; IPv6 has its own table."""
    options = ["--udp", "[::]:0", "--datagram-rate", "0.0001:1"]
    with network(MANY_IPV4, MANY_IPV6), serve(*options) as server:
        port = server.port("udp")
        with any_source() as sock:
            assert all_answered(sock, port, 1, TABLE + 1)
            assert answered(sock, port, addresses(TABLE + 1, TABLE + 10)) == 0
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            sock.bind(("2001:db8::1", 0))
            sock.sendto(b"hello", ("::1", port))
            assert sock.recv(10) == b"hello"


def test_f14_the_table_of_sources_stays_bounded(serve):
    """A second table full of sources is served in the memory of the first."""
    options = ["--udp", "0", "--datagram-rate", "1000000:1", "--log-rate", "0"]
    with network(MANY_IPV4), serve(*options) as server:
        port = server.port("udp")
        sizes = [resident(server)]
        with any_source() as sock:
            for first in (1, TABLE + 1):
                assert all_answered(sock, port, first, first + TABLE)
                sizes.append(resident(server))
        at_first, later = (after - before for before, after in pairwise(sizes))
        assert later < at_first / 2  # a dictionary may grow once more, its entries may not


def test_f36_answers_to_one_source_have_a_rate(serve):
    """An address, or a /64, gets only as many answers as its rate allows."""
    options = ["--udp", "[::]:0", "--datagram-rate", "0.001:5"]
    with network(MANY_IPV4, MANY_IPV6), serve(*options) as server:
        port = server.port("udp")
        with any_source() as sock:
            assert answered(sock, port, ["10.0.0.1"] * 100) == 5
            assert answered(sock, port, ["10.0.0.2"] * 100) == 5
        socks = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(10)]
        for number, sock in enumerate(socks):
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            sock.bind((f"2001:db8::{number:x}:1", 0))
            sock.sendto(b"hello", ("::1", port))
        with udp(port, "::1") as last:
            assert exchange(last, b"last") == b"last"
        got = []
        for sock in socks:
            with sock:
                sock.setblocking(False)
                try:
                    got.append(sock.recv(10))
                except BlockingIOError:
                    continue
        assert got == [b"hello"] * 5


@pytest.mark.parametrize("service", ["echo", "info"])
def test_f41_a_link_local_peer_is_answered(service, serve):
    """An answer to an fe80:: address leaves by the interface of its request."""
    with network("addr add fe80::1/64 dev lo"), serve("--udp", f"{service}=[::]:0") as server:
        port = server.port("udp")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(("fe80::1", port, 0, socket.if_nametoindex("lo")))
            sock.send(b"x" * 100)
            answer = sock.recv(1000)
        if service == "echo":
            assert answer == b"x" * 100
        else:
            assert json.loads(answer)["peer"].startswith("[fe80::1%")


@pytest.mark.parametrize("listener", ["0.0.0.0:0", "[::]:0"])
def test_f145_an_address_that_is_local_by_a_route_alone_answers(listener, serve):
    """No interface has the address (AnyIP); replies leave from it, alone and in a burst."""
    with network(MANY_IPV4, MANY_IPV6), serve("--udp", listener) as server:
        port, ipv6 = server.port("udp"), ":" in listener.rpartition(":")[0]
        with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(CLIENT_TIMEOUT)
            for host in ("2001:db8::5", "2001:db8:7::1") if ipv6 else ("10.1.2.3",):
                for _ in range(40):
                    sock.sendto(b"hello", (host, port))
                answers = [sock.recvfrom(100) for _ in range(40)]
                assert {(data, peer[:2]) for data, peer in answers} == {(b"hello", (host, port))}
        assert server.stop() == 0
        assert "dropped" not in server.output


@each_start
def test_f91_without_ipv6(start, tmp_path, serve):
    """Without IPv6, an IPv6 address is reported in one line, and IPv4 is served."""
    with network() as host:
        host.set("ipv6/conf/all/disable_ipv6", 1)
        done = finish([*start.command, "--tcp", "echo=[::1]:0"], tmp_path)
        assert done.returncode == start.unavailable
        assert only_line(done) == "netsrv: tcp [::1]:0: Cannot assign requested address"
        with serve("--tcp", "echo=127.0.0.1:0", start=start) as server:
            assert talk(tcp(server.port("tcp")), b"hello") == b"hello"
