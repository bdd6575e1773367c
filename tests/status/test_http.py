"""HTTP in memory: paths, garbage, and what one client can make the server hold."""

import json
import re

import pytest
from twisted.internet.defer import fail, maybeDeferred, succeed

from netsrv.status.access import AccessRules
from netsrv.status.channel import MAX_CHANNELS, StatusFactory
from netsrv.status.page_files import TYPES
from netsrv.status.site import COMMON_HEADERS, HealthSite, StatusSite
from netsrv.status.source import EncodedListener, ServerState
from netsrv.testing import MemoryServer

SINCE = "since: the number of a row of the history"

TOKEN = "0123456789abcdef"

FILES = {"/": (TYPES["html"], b"<p>page"), "/app.js": (TYPES["js"], b"1")}


class Source:
    """A server with a short status."""

    def __init__(self):
        self.state = ServerState.READY
        self.failed = []
        self.error = None

    def failed_listeners(self):
        return self.failed

    def take_snapshot(self):
        listeners = [EncodedListener('{"id":"tcp 1"}', '{"limits":[]}')] * 2
        snapshot = {"state": "ready", "listeners": listeners}
        return succeed(snapshot) if self.error is None else fail(self.error)


@pytest.fixture
def source():
    """What is asked for the status."""
    return Source()


def serve(source, rules=None, site=None):
    """Return a server in memory of the whole site."""
    site = site or StatusSite(
        source, rules or AccessRules(), FILES, lambda since: {"since": since}, maybeDeferred
    )
    return MemoryServer(StatusFactory(site), write_timeout=10, max_connections=MAX_CHANNELS + 4)


@pytest.fixture
def server(source):
    """A server in memory of the whole site, without a token."""
    return serve(source)


def ask(server, path, *headers, method="GET", version="HTTP/1.1"):
    """Send a request, and return status, headers and content of the answer."""
    client = server.connect()
    host = "" if any(header.startswith("Host:") for header in headers) else "Host: localhost\r\n"
    lines = "".join(f"{header}\r\n" for header in headers)
    client.send(f"{method} {path} {version}\r\n{host}{lines}\r\n".encode())
    return parse(client.read())


def parse(data):
    """Return status, headers and content of an answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    return int(line.split()[1]), dict(field.split(": ", 1) for field in fields), body


def test_the_status_is_json_with_the_newer_history(server):
    """Listeners are encoded one by one; the rest is one object with them."""
    status, headers, body = ask(server, "/status.json?since=7")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {
        "state": "ready",
        "since": 7,
        "listeners": [{"id": "tcp 1", "limits": []}] * 2,
    }


def test_the_brief_status_leaves_out_the_settings_of_listeners(server):
    """So an answer each second about hundreds of listeners stays small."""
    _, _, body = ask(server, "/status.json?since=7&brief")
    assert json.loads(body)["listeners"] == [{"id": "tcp 1"}] * 2


@pytest.mark.parametrize("since", ["x", "-1", "1.5", "9" * 20, "%D9%A1", ""])
def test_f108_a_wrong_number_of_a_row_is_refused(since, server):
    """The answer is JSON too."""
    status, _, body = ask(server, f"/status.json?since={since}")
    assert (status, json.loads(body)) == (400, {"error": SINCE})


def test_every_answer_has_the_headers_of_safety(server):
    """No cache, no type guessed, no script or frame of another site."""
    for path in ("/", "/app.js", "/status.json", "/readyz", "/no", "/status.json?since=x"):
        _, headers, body = ask(server, path)
        assert COMMON_HEADERS.items() <= headers.items()
        assert int(headers["Content-Length"]) == len(body)
    assert "unsafe" not in COMMON_HEADERS["Content-Security-Policy"]


def test_the_page_is_served_from_memory(server):
    """Each file has its type; no other path leads to a file."""
    assert ask(server, "/")[2] == b"<p>page"
    assert ask(server, "/app.js")[1]["Content-Type"] == "text/javascript; charset=utf-8"
    for path in ("/../setup.cfg", "//app.js", "/app.js/", "/%61pp.js", "/index.html"):
        assert ask(server, path)[0] == 404


def test_a_head_is_an_answer_without_its_content(server):
    """With the same headers."""
    got, head = ask(server, "/status.json"), ask(server, "/status.json", method="HEAD")
    assert (head[0], head[1], head[2]) == (200, got[1], b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "X"])
def test_other_methods_are_refused(method, server):
    """With those that there are."""
    status, headers, _ = ask(server, "/status.json", "Content-Length: 0", method=method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_health_is_in_the_form_of_kubernetes(server, source):
    """The status code tells; each check has a line if one fails, or with ``verbose``."""
    assert ask(server, "/readyz")[::2] == (200, b"ok\n")
    assert ask(server, "/livez?verbose")[2] == b"[+]reactor ok\nlivez check passed\n"
    source.state, source.failed = ServerState.DRAINING, ["tcp 1: failed"]
    text = (
        b"[+]startup ok\n"
        b"[-]shutdown failed: the server is ending\n"
        b"[-]listeners failed: tcp 1: failed\n"
        b"readyz check failed\n"
    )
    assert ask(server, "/readyz")[::2] == (503, text)
    assert ask(server, "/healthz?x=1")[0] == 503
    assert ask(server, "/livez")[::2] == (200, b"ok\n")
    assert ask(server, "/readyz?exclude=shutdown&exclude=listeners")[0] == 200
    assert b"[+]shutdown excluded: ok" in ask(server, "/readyz?verbose&exclude=shutdown")[2]
    assert ask(server, "/readyz?exclude=nothing")[0] == 503


def test_f108_the_health_address_has_nothing_else(source):
    """And tells no reason."""
    server = serve(source, site=HealthSite(source))
    source.failed = ["tcp 1: failed"]
    assert ask(server, "/readyz", "Host: any.example")[0] == 503
    assert b"[-]listeners failed: reason withheld\n" in ask(server, "/readyz")[2]
    for path in ("/", "/status.json", "/metrics"):
        assert ask(server, path)[0] == 404


def test_f108_a_token_protects_all_but_health(source):
    """A browser asks its user for it, since the answer names basic authentication."""
    server = serve(source, AccessRules(TOKEN))
    for path in ("/", "/status.json", "/metrics", "/no"):
        status, headers, _ = ask(server, path)
        assert (status, headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert ask(server, "/readyz")[0] == 200
    assert ask(server, "/status.json", f"Authorization: Bearer {TOKEN}")[0] == 200


def test_f108_names_and_sites_are_checked(server):
    """On every path but those of health."""
    assert ask(server, "/status.json", "Host: evil.example")[0] == 403
    assert ask(server, "/status.json", "Sec-Fetch-Site: cross-site")[0] == 403
    assert ask(server, "/status.json", "Host: localhost", "Host: localhost")[0] == 400
    assert ask(server, "/readyz", "Host: evil.example")[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 600 + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\r\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_f108_garbage_is_answered_and_closed(data, server):
    """With 4xx, or closed where a line does not end; the next client is served."""
    client = server.connect()
    client.send(data)
    assert re.match(rb"HTTP/\d\.\d 4\d\d |$", client.received), client.received
    assert client.close_kind == "closed" or client.received
    assert ask(server, "/readyz")[0] == 200


def test_f108_the_content_of_a_request_is_dropped(server):
    """However long it is, and in whatever form."""
    client = server.connect()
    client.send(b"GET /readyz HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n")
    for _ in range(50):
        client.send(b"x" * 100_000)
    assert client.read().startswith(b"HTTP/1.1 200")
    client.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert client.read().startswith(b"HTTP/1.1 405")
    assert client.close_kind is None


def test_requests_follow_each_other_on_one_connection(server):
    """Also if all come at once."""
    client = server.connect()
    client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
    assert client.read().count(b"HTTP/1.1 200 OK") == 3
    client.send(b"GET /livez HTTP/1.0\r\n\r\n")
    assert client.received.endswith(b"ok\n")
    assert client.close_kind == "closed"


def test_f108_the_oldest_connection_ends_for_a_new_one(server):
    """Idle connections keep no client out; one that asks stays."""
    asking = server.connect()
    idle = [server.connect() for _ in range(MAX_CHANNELS - 1)]
    asking.send(b"GET /livez HTTP/1.1\r\n\r\n")
    more = [server.connect() for _ in range(1000)]
    assert ask(server, "/readyz")[0] == 200
    assert {client.close_kind for client in idle} == {"reset"}
    assert server.connections == MAX_CHANNELS
    assert more[-2].close_kind is None


def test_f108_a_reader_that_never_reads_is_ended(source):
    """By the write limit of the listener; its connection is freed."""
    files = {"/": (TYPES["html"], b"x" * 2**20)}
    site = StatusSite(source, AccessRules(), files, lambda since: {}, maybeDeferred)
    server = serve(source, site=site)
    client = server.connect(reading=False)
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    server.advance(30)
    assert server.connections == 0
    assert server.counts.closed == {"write_timeout": 1}


@pytest.mark.parametrize("expected_failures", [["ZeroDivisionError"]])
def test_a_bug_is_an_answer_too(server, source, expected_failures):
    """It is logged, and told as 500."""
    source.error = ZeroDivisionError()
    assert ask(server, "/status.json")[0] == 500
    assert ask(server, "/readyz")[0] == 200
