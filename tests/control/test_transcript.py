"""Requests that were recorded with toxiproxy 2.12, and its answers, which are ours too.

The texts of Go's JSON decoder depend on its version: they are compared up to ``bad request body:``.
"""

import json
import re
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from netsrv.control.api import Api
from netsrv.control.proxies import Proxies
from netsrv.server.control import ServerProxies
from netsrv.server.server import Server

TRANSCRIPT = Path(__file__).with_name("transcript.json")

WHOLE = "a request that fails changes nothing; toxiproxy applies a half of it"
STAYS = "a proxy that cannot move goes on where it was; toxiproxy leaves it stopped"
FLOATS = "a whole number may be written as 1000.0"
NEWER = "a toxic of toxiproxy 2.13"

DIFFERENCES = {
    "show after listen in use": STAYS,
    "update: enable, still in use": STAYS,
    "update: listen free, not enabled": STAYS,
    "show after not local": STAYS,
    "show q3 after that": STAYS,
    "final list": STAYS,
    "toxic create: type packet_loss": NEWER,
    "toxic create: latency 1000.0": FLOATS,
    "toxic create: latency 1e3": FLOATS,
    "toxic update: latency 30.0": FLOATS,
    "toxic show after the failed update": WHOLE,
    "toxic show after that": WHOLE,
    "toxic show after truncated": WHOLE,
    "toxics: order after updates": WHOLE,
    "toxics: order after deletes": WHOLE,
    "update proxy keeps toxics": WHOLE,
    "disable keeps toxics": WHOLE,
}
"""The answers that differ, and why."""

ACCEPTED_BY_US = (
    "toxic create: latency 1000.0",
    "toxic create: latency 1e3",
    "toxic create: type packet_loss",
)
"""Requests for a toxic that toxiproxy refuses: the test deletes it again."""


class Replay:
    """Sends the requests to an `Api`; ``{PORT1}`` and others stand for ports."""

    def __init__(self, api):
        self.api = api
        self.known = {}

    def fill(self, text):
        """Replace placeholders by free ports, or by ports that answers have had."""
        return re.sub(r"\{(?:PORT\d+|EPH\d+|UP)\}", self._value, text)

    def _value(self, match):
        name = match[0]
        if name not in self.known and not name.startswith("{EPH"):
            self.known[name] = str(free_port(self.known.values()))
        return self.known.get(name, name)

    def learn(self, want, got):
        """Remember the ports that the server has chosen."""
        if isinstance(want, dict) and isinstance(got, dict):
            for key, value in want.items():
                self.learn(value, got.get(key))
        elif isinstance(want, list) and isinstance(got, list):
            for one, other in zip(want, got, strict=False):
                self.learn(one, other)
        elif isinstance(want, str) and isinstance(got, str):
            name, port = re.search(r"\{EPH\d+\}$", want), re.search(r":(\d+)$", got)
            if name and port:
                self.known.setdefault(name[0], port[1])

    def send(self, entry):
        """Send one request; return what is wrong with its answer, or an empty text."""
        with ExitStack() as stack:
            if "hold_port" in entry:
                held = stack.enter_context(closing(socket.socket()))
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind(("127.0.0.1", int(self.fill(entry["hold_port"]))))
                held.listen()
            path = self.fill(entry["path"]).partition("?")[0]
            body = self.fill(entry.get("body", "")).encode()
            answer = self.api.answer(entry["method"], path, body, entry.get("agent", ""))
        text = answer.body.decode()
        try:
            got = json.loads(text)
        except ValueError:
            got = text
        self.learn(entry["answer"], got)
        want = json.loads(self.fill(json.dumps(entry["answer"])))
        if answer.status != entry["status"]:
            return f"status {answer.status}, not {entry['status']}"
        if path == "/version":
            return ""
        if not same(want, got):
            return f"{got}, not {want}"
        kind = entry.get("type", "").partition(";")[0]
        if kind and answer.status != 405 and answer.content_type.partition(";")[0] != kind:
            return f"{answer.content_type}, not {kind}"
        return ""


def same(want, got):
    """Return True if an answer is as wanted; it may have more keys, and other texts about JSON."""
    if isinstance(want, dict):
        return isinstance(got, dict) and all(
            key == "Logger" or (key in got and same(value, got[key])) for key, value in want.items()
        )
    if isinstance(want, list):
        return isinstance(got, list) and len(want) == len(got) and all(map(same, want, got))
    if isinstance(want, str) and isinstance(got, str):
        beginning = re.match("bad request body: ", want)
        return "{ANY}" in want or (got.startswith(beginning[0]) if beginning else want == got)
    if isinstance(want, float):
        return isinstance(got, int | float) and abs(want - got) < 1e-6
    return want == got and isinstance(want, bool) == isinstance(got, bool)


def free_port(taken):
    """Return a port that is free on 127.0.0.1 and on all addresses, and is not among *taken*."""
    while True:
        with closing(socket.socket(socket.AF_INET6)) as sock:
            sock.bind(("::", 0))
            port = sock.getsockname()[1]
        if str(port) not in taken:
            return port


@pytest_twisted.inlineCallbacks
def test_the_answers_are_those_of_toxiproxy():
    """But for the differences that are listed, each of which is one."""
    server = Server(reactor, [])
    server.startService()
    replay = Replay(Api(Proxies(ServerProxies(server, time.monotonic)), "1"))
    entries = json.loads(TRANSCRIPT.read_text())
    found = {}
    try:
        for entry in entries:
            wrong = replay.send(entry)
            if wrong:
                found[entry["name"]] = wrong
            if entry["name"] in ACCEPTED_BY_US:
                name = json.loads(entry["body"])["type"]
                replay.api.answer("DELETE", f"/proxies/p1/toxics/{name}_downstream", b"")
    finally:
        yield server.stopService()
    assert len(entries) > 350
    unlisted = {name: text for name, text in found.items() if name not in DIFFERENCES}
    assert unlisted == {}, "\n".join(f"{name}: {text}" for name, text in unlisted.items())
    assert set(DIFFERENCES) - set(found) == set()
