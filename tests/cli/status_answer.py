"""An answer of a status server, as its contract has it, and a server that gives it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from netsrv.cli.top.health import BAD, GOOD, WARNING

START = 1764130000.5

COLUMNS = [
    *("seq", "time", "connections", "accepted", "closed", "refused", "received_bytes"),
    *("sent_bytes", "datagrams_received", "datagrams_sent", "datagrams_dropped", "lag"),
]


def stream(name: str, **changes: Any) -> dict[str, Any]:
    """Return a listener on streams; *changes* are of its ``connections``."""
    connections = {
        "now": 3,
        "most": 17,
        "limit": 960,
        "accepted": 1234,
        "refused": {"per_source": 4},
        "closed": {"peer": 1200},
        "pending": {},
    }
    return {
        "id": f"tcp {name}",
        "name": f"tcp {name}",
        "transport": "tcp",
        "address": name,
        "service": "echo",
        "started": START,
        "state": "serving",
        "state_reason": "",
        "connections": connections | changes,
        "bytes": {"received": 123456, "sent": 123450},
        "datagrams": None,
        "errors": {"accept": 0, "service": 0},
        "tls": None,
        "proxy": None,
        "faults": [],
    }


def datagram(name: str) -> dict[str, Any]:
    """Return a listener on datagrams."""
    datagrams = {"received": 100, "sent": 99, "dropped": {"source_port": 1}, "kernel_drops": 0}
    udp = {"id": f"udp {name}", "name": f"udp {name}", "transport": "udp"}
    return stream(name) | udp | {"connections": None, "datagrams": datagrams}


def worker(index: int) -> dict[str, Any]:
    """Return a worker."""
    counts = {"connections": 2 - index, "accepted": 1000 + index, "datagrams": 5}
    return {
        "index": index,
        "pid": 4243 + index,
        "state": "serving",
        "start": START if index else None,
        "resident": 35_000_000,
        "cpu_seconds": 1.5 + index,
    } | counts


def make_answer(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the answer *number* seconds after the first one; *changes* are of its keys."""
    rows = [
        [at, START + at, 3, 10.0, 9.0, 0.0, 512.0, 512.0, 7.0, 7.0, 0.0, 0.0008] for at in (1, 2)
    ]
    answer: dict[str, Any] = {
        "contract": 1,
        "version": "0.1.0",
        "reactor": "UvloopReactor",
        "host": "web1",
        "pid": 4242,
        "start": START,
        "now": START + 60 + number,
        "state": "ready",
        "ready": True,
        "reasons": [],
        "connections": {"now": 3, "most": 17, "limit": 960},
        "config": {"file": None, "last_reload": None, "reloads": {"success": 0}},
        "loop": {"lag": 0.001, "lag_most": 0.03, "stalls": 0, "stalled_seconds": 0.0},
        "process": {
            "cpu_seconds": 1.0 + number / 10,
            "resident_bytes": 41943040,
            "open_descriptors": 23,
            "max_descriptors": 1024,
            "threads": 2,
        },
        "log_lines_dropped": {"log_rate": 0, "output": 0, "access_log": 0},
        "access_log": None,
        "listeners": [
            stream("127.0.0.1:7 (echo)", accepted=1234 + 10 * number),
            stream("127.0.0.1:9 (discard)", now=900),
            datagram("127.0.0.1:7 (echo)"),
        ],
        "recent": {
            "refusals": [
                {"time": START, "listener": "tcp 127.0.0.1:7 (echo)"}
                | {"peer": "192.0.2.1:4", "reason": "per_source"}
            ],
            "endings": [
                {"time": START, "listener": "tcp 127.0.0.1:7 (echo)", "peer": "192.0.2.2:5"}
                | {"reason": "idle_timeout", "seconds": 60.01, "received": 5, "sent": 5}
            ],
            "events": [{"time": START, "listener": "", "event": "reloaded", "text": "nothing new"}],
        },
        "sources": [
            {"source": "192.0.2.3", "listener": "tcp 127.0.0.1:7 (echo)", "connections": 3}
        ],
        "workers": {"processes": [worker(0), worker(1)]},
        "certificates": [],
        "faults": [],
        "history": {"seq": 2, "interval": 1.0, "columns": COLUMNS, "rows": rows},
    }
    return deepcopy(answer | changes)


PROBLEMS: list[tuple[dict[str, Any], str, str]] = [
    ({}, GOOD, ""),
    ({"state": "draining", "ready": False, "reasons": ["draining"]}, WARNING, "draining"),
    ({"ready": False, "reasons": ["tcp x: failed"]}, BAD, "tcp x: failed"),
    (
        {"listeners": [stream("x") | {"state": "suspended"}]},
        WARNING,
        "tcp x: suspended by its owner",
    ),
    (
        {"listeners": [stream("x") | {"state": "full", "state_reason": "max_connections"}]},
        WARNING,
        "tcp x: at its limit (max connections)",
    ),
    (
        {"listeners": [stream("x") | {"state": "failed", "state_reason": "EBADF"}]},
        BAD,
        "tcp x: failed: EBADF",
    ),
    ({"listeners": [stream("x", now=90, limit=100)]}, WARNING, "tcp x: 90 of 100 connections"),
    (
        {
            "ready": False,
            "reasons": ["tcp x: suspended"],
            "listeners": [stream("x") | {"state": "suspended"}],
        },
        BAD,
        "tcp x: suspended",
    ),
    ({"listeners": [stream("x") | {"faults": ["latency"]}]}, WARNING, "1 fault is active"),
    (
        {"connections": {"now": 950, "most": 950, "limit": 960}},
        WARNING,
        "the process has 950 of 960 connections (descriptors)",
    ),
    (
        {
            "config": {
                "file": "x",
                "reloads": {},
                "last_reload": {"time": START, "result": "failure", "error": "x: no such key"},
            }
        },
        WARNING,
        "the last reload has changed nothing: x: no such key",
    ),
    (
        {"certificates": [{"name": "a.pem", "not_after": START + 60 + 2 * 86400, "names": []}]},
        WARNING,
        "certificate a.pem expires in 2 d",
    ),
    (
        {"certificates": [{"name": "a.pem", "not_after": START, "names": []}]},
        BAD,
        "certificate a.pem has expired",
    ),
    (
        {"loop": {"lag": 0, "lag_most": 0.7, "stalls": 0, "stalled_seconds": 0}},
        WARNING,
        "the reactor was late by 700 ms in the last minute",
    ),
]
"""Changes of a good answer, how well the server is then, and the line that says so."""


@contextmanager
def serve_answers(answers: Callable[[int], Any]) -> Iterator[str]:
    """Serve ``answers(0)``, ``answers(1)``, ... at an address, which is returned."""
    numbers = iter(range(1_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers(next(numbers))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Be silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
