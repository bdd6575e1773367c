"""Check that the metrics agree exactly with what clients did.

Usage: python -m bench.status_counts [--connections N] [--datagrams N]

Clients end connections in every way that a client can see, and exchange datagrams; then the counts
of ``/status.json`` and of ``/metrics`` in both formats are compared with those of the clients.
"""

import argparse
import json
import re
import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from bench.measure import machine
from bench.processes import raise_descriptors, serving
from tests.clients import tcp, udp
from tests.timeouts import CLIENT_TIMEOUT

CONFIGURATION = """
log_rate = 0
[status]
address = "127.0.0.1:0"
[[listener]]
service = "echo"
tcp = "127.0.0.1:0"
[[listener]]
service = "daytime"
tcp = "127.0.0.1:0"
[[listener]]
service = "accept"
tcp = "127.0.0.1:0"
[[listener]]
service = "echo"
tcp = "127.0.0.2:0"
limits = { idle_timeout = 0.1 }
[[listener]]
service = "echo"
tcp = "127.0.0.3:0"
limits = { lifetime = 0.1 }
[[listener]]
service = "echo"
tcp = "127.0.0.4:0"
access = { only_from = ["10.0.0.0/8"] }
[[listener]]
service = "echo"
tcp = "127.0.0.5:0"
limits = { per_source = 1 }
[[listener]]
service = "echo"
tcp = "127.0.0.6:0"
limits = { max_connections = 1, overload = "reset" }
[[listener]]
service = "echo"
udp = "127.0.0.1:0"
"""

RESET = struct.pack("ii", 1, 0)
BATCH_SIZE = 50
"""Connections, or datagrams, that are under way at once."""

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Addresses = list[tuple[str, int]]
Expected = dict[str, Any]


def connect(address: tuple[str, int]) -> socket.socket:
    """Connect to a listener."""
    return tcp(address[1], address[0])


def end_by_peer(address: tuple[str, int], count: int) -> Expected:
    """Exchange a message on each connection, and close it."""
    for number in range(count):
        with connect(address) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
            if number % 2:
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
    return {"accepted": count, "closed": {"peer": count}, "received": 5 * count, "sent": 5 * count}


def end_by_reset(address: tuple[str, int], count: int) -> Expected:
    """Exchange a byte on each connection, and reset it."""
    for _ in range(count):
        with connect(address) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return {"accepted": count, "closed": {"reset": count}, "received": count, "sent": count}


def end_by_server(address: tuple[str, int], count: int, reason: str) -> Expected:
    """Read each connection to the end that the server makes."""
    sent = 0
    for start in range(0, count, BATCH_SIZE):
        socks = [connect(address) for _ in range(min(BATCH_SIZE, count - start))]
        for sock in socks:
            with sock:
                while data := sock.recv(1000):
                    sent += len(data)
    return {"accepted": count, "closed": {reason: count}, "sent": sent}


def be_refused(address: tuple[str, int], count: int, reason: str, hold: int = 0) -> Expected:
    """Be closed or reset on each connection; *hold* others are open meanwhile."""
    held = [connect(address) for _ in range(hold)]
    for sock in held:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    for _ in range(count):
        with suppress(ConnectionResetError), connect(address) as sock:
            assert sock.recv(1) == b""
    for sock in held:
        sock.close()
    closed = {"peer": hold} if hold else {}
    expected: Expected = {"refused": {reason: count}, "closed": closed}
    return {**expected, "accepted": hold, "received": hold, "sent": hold}


def exchange_datagrams(address: tuple[str, int], count: int) -> Expected:
    """Have each datagram sent back."""
    with udp(address[1], address[0]) as sock:
        for start in range(0, count, BATCH_SIZE):
            batch = min(BATCH_SIZE, count - start)
            for _ in range(batch):
                sock.send(b"12345678")
            for _ in range(batch):
                assert sock.recv(100) == b"12345678"
    return {"received": 8 * count, "sent": 8 * count, "datagrams": count}


def add(*parts: Expected) -> Expected:
    """Add up what was done to one listener."""
    total: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for part in parts:
        closed.update(part.pop("closed", {}))
        refused.update(part.pop("refused", {}))
        total.update(part)
    return {**total, "closed": dict(closed), "refused": dict(refused)}


def act(addresses: Addresses, connections: int, datagrams: int) -> list[Expected]:
    """Do all this, and return what is expected of each listener."""
    [echo, daytime, accept, idle, lifetime, denied, per_source, full, dgram] = addresses
    share = -(-connections // 9)
    return [
        add(end_by_peer(echo, 2 * share), end_by_reset(echo, 2 * share)),
        add(end_by_server(daytime, share, "service")),
        add(end_by_server(accept, share, "service")),
        add(end_by_server(idle, min(share, 500), "idle_timeout")),
        add(end_by_server(lifetime, min(share, 500), "lifetime")),
        add(be_refused(denied, share, "access")),
        add(be_refused(per_source, share, "per_source", 1)),
        add(be_refused(full, share, "max_connections", 1)),
        exchange_datagrams(dgram, datagrams),
    ]


def get(url: str, accept: str = "*/*") -> str:
    """Return the text of an answer."""
    with urlopen(Request(url, headers={"Accept": accept}), timeout=CLIENT_TIMEOUT) as answer:
        text: str = answer.read().decode()
        return text


def settled(url: str) -> list[dict[str, Any]]:
    """Return the listeners of the status once no connection is live."""
    deadline = time.monotonic() + CLIENT_TIMEOUT
    while True:
        rows: list[dict[str, Any]] = json.loads(get(f"{url}status.json"))["listeners"]
        if not any(row["connections"]["now"] for row in rows if row["connections"]):
            return rows
        assert time.monotonic() < deadline, "connections stay"


def compare_row(row: dict[str, Any], expected: Expected) -> None:
    """Compare a listener of the status with what clients did to it."""
    sizes = {name: expected.get(name, 0) for name in ("received", "sent")}
    assert row["bytes"] == sizes, (row["id"], row["bytes"], sizes)
    if row["datagrams"]:
        count = expected["datagrams"]
        assert row["datagrams"] == {
            "received": count,
            "sent": count,
            "dropped": {},
            "kernel_drops": 0,
        }
        return
    counts = {name: row["connections"][name] for name in ("accepted", "closed", "refused")}
    wanted = {name: expected.get(name, 0) for name in counts}
    assert counts == wanted, (row["id"], counts, wanted)
    assert sum(count for _, count in row["duration"]["buckets"]) == wanted["accepted"]


def compare_metrics(text: str, parse: Callable[[str], Any], rows: list[dict[str, Any]]) -> None:
    """Compare the metrics with the status, which was compared with the clients."""
    samples = {
        (sample.name, sample.labels.get("listener"), sample.labels.get("reason")): sample.value
        for family in parse(text)
        for sample in family.samples
    }
    for row in rows:
        name = row["id"]
        assert samples["netsrv_received_bytes_total", name, None] == row["bytes"]["received"]
        assert samples["netsrv_sent_bytes_total", name, None] == row["bytes"]["sent"]
        for kind in ("closed", "refused") if row["connections"] else ():
            metric = f"netsrv_connections_{kind}_total"
            found = {key[2]: value for key, value in samples.items() if key[:2] == (metric, name)}
            assert {key: count for key, count in found.items() if count} == row["connections"][kind]
        if row["datagrams"]:
            count = row["datagrams"]["received"]
            assert samples["netsrv_datagrams_received_total", name, None] == count
        else:
            count = row["connections"]["accepted"]
            assert samples["netsrv_connections_accepted_total", name, None] == count
            assert samples["netsrv_connection_duration_seconds_count", name, None] == count


def addresses_of(lines: list[str]) -> Iterator[tuple[str, int]]:
    """Yield the addresses in the lines about the listeners."""
    for line in lines:
        if match := re.search(r"Waiting for \w+ on \w+ ([\d.]+):(\d+) ", line):
            yield match[1], int(match[2])


def check(folder: Path, connections: int, datagrams: int) -> int:
    """Run all this, and return the number of connections.  Raises AssertionError."""
    (folder / "netsrv.toml").write_text(CONFIGURATION)
    with serving(["netsrv", "serve", "-c", str(folder / "netsrv.toml")]) as server:
        url = server.wait_for("Serving status on (.*)")[1]
        addresses = list(islice(addresses_of(server.lines), 9))
        expected = act(addresses, connections, datagrams)
        rows = settled(url)
        for row, wanted in zip(rows, expected, strict=True):
            compare_row(row, wanted)
        compare_metrics(get(f"{url}metrics"), parse_text, rows)
        compare_metrics(get(f"{url}metrics", OPENMETRICS), parse_openmetrics, rows)
        server.stop()
    made = [row["connections"] for row in rows if row["connections"]]
    return sum(row["accepted"] + sum(row["refused"].values()) for row in made)


def main() -> None:
    """Check with as many as are asked for."""
    parser = argparse.ArgumentParser(
        prog="bench.status_counts", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--datagrams", type=int, default=1_000_000)
    options = parser.parse_args()
    print(machine())
    raise_descriptors()
    with tempfile.TemporaryDirectory() as folder:
        count = check(Path(folder), options.connections, options.datagrams)
    print(f"{count} connections and {options.datagrams} datagrams: all counts agree")


if __name__ == "__main__":
    main()
