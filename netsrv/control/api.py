"""toxiproxy's API: requests in, answers out.

Where it differs from toxiproxy, it is whole: a request that fails changes nothing.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any
from urllib.parse import quote, unquote

from attrs import evolve, frozen

from netsrv.control.bodies import BadRequest, as_object, decode, decode_object, field
from netsrv.control.listening import ListenError, parse_listen, resolve, show_listen
from netsrv.control.proxies import Proxies, Proxy, ProxyError
from netsrv.control.toxics import ALL_STREAMS, WrongToxic, read_toxic, updated
from netsrv.faults.fault import FaultSettings
from netsrv.interfaces import CloseReason
from netsrv.status.site import Answer

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
NO_HEADERS: Mapping[str, str] = {}

BROWSER = "Mozilla/"
"""The beginning of the User-Agent of a browser, which is refused: a page must not send requests."""


REQUEST_ID = "X-Toxiproxy-Request-Id"

Handler = Callable[..., Answer]


class Api:
    """Answers requests about *proxies*; *version* is what ``/version`` tells."""

    def __init__(self, proxies: Proxies, version: str) -> None:
        self._proxies = proxies
        self._version = version
        name = "([^/]+)"
        self._routes: list[tuple[re.Pattern[str], dict[str, Handler]]] = [
            (re.compile(pattern), methods)
            for pattern, methods in (
                ("/version", {"GET": self._get_version}),
                ("/reset", {"POST": self._reset}),
                ("/populate", {"POST": self._populate}),
                ("/proxies", {"GET": self._list, "POST": self._create}),
                (
                    f"/proxies/{name}",
                    {
                        "GET": self._show,
                        "POST": self._update,
                        "PATCH": self._update,
                        "DELETE": self._delete,
                    },
                ),
                (
                    f"/proxies/{name}/toxics",
                    {"GET": self._list_toxics, "POST": self._create_toxic},
                ),
                (
                    f"/proxies/{name}/toxics/{name}",
                    {
                        "GET": self._show_toxic,
                        "POST": self._update_toxic,
                        "PATCH": self._update_toxic,
                        "DELETE": self._delete_toxic,
                    },
                ),
                (f"/proxies/{name}/connections", {"GET": self._list_connections}),
                (f"/proxies/{name}/connections/{name}", {"DELETE": self._end_connection}),
            )
        ]

    def answer(self, method: str, path: str, body: bytes, agent: str = "") -> Answer:
        """Answer a request for *path*, which is as it was sent, without the query."""
        decoded = unquote(path)
        clean = _cleaned(decoded)
        if clean != decoded:
            return Answer(301, headers={"Location": quote(clean)})
        for pattern, methods in self._routes:
            match = pattern.fullmatch(decoded)
            if match is None:
                continue
            handler = methods.get(method)
            if handler is None:
                return Answer(405)
            if agent.startswith(BROWSER):
                return Answer(403, b"User agent not allowed\n", TEXT, {REQUEST_ID: token_hex(10)})
            answer = _call(handler, body, *match.groups())
            return evolve(answer, headers={**answer.headers, REQUEST_ID: token_hex(10)})
        return Answer(404, b"404 page not found\n", TEXT)

    # The server

    def _get_version(self, _body: bytes) -> Answer:
        body = json.dumps({"version": self._version}) + "\n"
        return Answer(200, body.encode(), "application/json;charset=utf-8")

    def _reset(self, _body: bytes) -> Answer:
        """Enable all proxies, and remove all faults; report the first that cannot listen."""
        failed: ProxyError | None = None
        for proxy in self._proxies:
            try:
                proxy.enable()
            except ProxyError as error:
                failed = failed or error
                continue
            for name in list(proxy.faults):
                proxy.remove_fault(name)
        if failed is not None:
            raise failed
        return Answer(204)

    def _populate(self, body: bytes) -> Answer:
        """Have proxies with these names and addresses; those that are so already stay."""
        done: list[Proxy] = []
        try:
            tables = decode(body)
            if tables is None:
                tables = []
            if not isinstance(tables, list):
                raise BadRequest("json: cannot unmarshal a value into a list of proxies")
            wanted = [_ProxyFields.read(as_object(table)) for table in tables]
            for number, fields in enumerate(wanted, 1):
                fields.check(f" at proxy {number}")
            for fields in wanted:
                done.append(self._have(fields))
        except (ProxyError, BadRequest) as error:
            bad = isinstance(error, BadRequest)
            text, status = (
                (f"bad request body: {error}", 400) if bad else (str(error), error.status)  # type: ignore[union-attr]
            )
            answer = {"error": text, "status": status, "proxies": _shown(done)}
            return Answer(status, json.dumps(answer).encode(), JSON)
        return _json({"proxies": _shown(done)}, 201)

    def _have(self, fields: "_ProxyFields") -> Proxy:
        if fields.name in self._proxies:
            return self._replace(self._proxies.get(fields.name), fields)
        proxy = self._proxies.create(fields.name, fields.listen, fields.upstream, fields.udp)
        self._proxies.add(proxy, fields.enabled)
        return proxy

    def _replace(self, before: Proxy, fields: "_ProxyFields") -> Proxy:
        """Replace a proxy, unless its addresses are the same; if that fails, it stays."""
        _check_listen(fields.listen)
        if _same_listen(before, fields.listen) and before.upstream == fields.upstream:
            return before
        _check_movable(before)
        was_enabled = before.enabled
        before.disable()
        proxy = self._proxies.create(fields.name, fields.listen, fields.upstream, fields.udp)
        try:
            self._proxies.add(proxy, fields.enabled)
        except ProxyError:
            if was_enabled:
                before.enable()
            raise
        return proxy

    # Proxies

    def _list(self, _body: bytes) -> Answer:
        return _json({proxy.name: proxy.show() for proxy in self._proxies})

    def _create(self, body: bytes) -> Answer:
        table = decode_object(body)
        fields = _ProxyFields.read(table)
        fields.check()
        if fields.name in self._proxies:
            raise ProxyError("proxy already exists", 409)
        proxy = self._proxies.create(fields.name, fields.listen, fields.upstream, fields.udp)
        for toxic in field(table, "faults", list, []):
            proxy.add_fault(read_toxic(as_object(toxic), proxy.find_kind, ALL_STREAMS))
        self._proxies.add(proxy, fields.enabled)
        return _json(proxy.show(), 201)

    def _show(self, _body: bytes, name: str) -> Answer:
        return _json(self._proxies.get(name).show())

    def _update(self, body: bytes, name: str) -> Answer:
        proxy = self._proxies.get(name)
        table = decode_object(body)
        field(table, "name", str, "")
        listen = field(table, "listen", str, proxy.listen)
        upstream = field(table, "upstream", str, proxy.upstream)
        enabled = field(table, "enabled", bool, proxy.enabled)
        _check_listen(listen)
        if not _same_listen(proxy, listen) or upstream != proxy.upstream:
            self._move(proxy, listen, upstream)
        if enabled:
            proxy.enable()
        else:
            proxy.disable()
        return _json(proxy.show())

    def _move(self, proxy: Proxy, listen: str, upstream: str) -> None:
        """Give a proxy other addresses; if it cannot listen there, it goes on as before."""
        _check_movable(proxy)
        before = proxy.listen, proxy.upstream, proxy.enabled
        proxy.disable()
        proxy.listen, proxy.upstream = listen, upstream
        if not before[2]:
            return
        try:
            proxy.enable()
        except ProxyError:
            proxy.listen, proxy.upstream = before[:2]
            proxy.enable()
            raise

    def _delete(self, _body: bytes, name: str) -> Answer:
        self._proxies.remove(self._proxies.get(name))
        return Answer(204)

    # Toxics

    def _list_toxics(self, _body: bytes, name: str) -> Answer:
        proxy = self._proxies.get(name)
        proxy.refresh()
        return _json([proxy.show_fault(fault) for fault in proxy.ordered_faults()])

    def _create_toxic(self, body: bytes, name: str) -> Answer:
        proxy = self._proxies.get(name)
        proxy.refresh()
        table = decode_object(body)
        fault = self._read_toxic(proxy, table)
        proxy.add_fault(fault)
        proxy.streams[fault.name] = field(table, "stream", str, fault.stream)
        return _json(proxy.show_fault(fault))

    def _read_toxic(self, proxy: Proxy, table: dict[str, Any]) -> FaultSettings:
        """Read a new toxic; that its name is taken comes before what its attributes lack."""
        try:
            return read_toxic(table, proxy.find_kind)
        except BadRequest:
            stream = str(table.get("stream") or "downstream")
            name = table.get("name") or f"{table.get('type')}_{stream}"
            if isinstance(name, str) and name in proxy.faults:
                raise ProxyError("toxic already exists", 409) from None
            raise

    def _show_toxic(self, _body: bytes, name: str, toxic: str) -> Answer:
        proxy, fault = self._find(name, toxic)
        return _json(proxy.show_fault(fault))

    def _update_toxic(self, body: bytes, name: str, toxic: str) -> Answer:
        proxy, fault = self._find(name, toxic)
        fault = updated(fault, decode_object(body))
        proxy.update_fault(fault)
        return _json(proxy.show_fault(fault))

    def _delete_toxic(self, _body: bytes, name: str, toxic: str) -> Answer:
        proxy, fault = self._find(name, toxic)
        proxy.remove_fault(fault.name)
        return Answer(204)

    def _find(self, name: str, toxic: str) -> tuple[Proxy, FaultSettings]:
        proxy = self._proxies.get(name)
        proxy.refresh()
        try:
            return proxy, proxy.faults[toxic]
        except KeyError:
            raise ProxyError("toxic not found", 404) from None

    # Connections

    def _list_connections(self, _body: bytes, name: str) -> Answer:
        return _json([shown for shown, _ in self._proxies.get(name).connections()])

    def _end_connection(self, _body: bytes, name: str, number: str) -> Answer:
        listed = self._proxies.get(name).connections()
        ending = [connection for shown, connection in listed if shown["id"] == number]
        if not ending:
            raise ProxyError("connection not found", 404)
        for connection in ending:
            connection.end(CloseReason.FAULT)
        return Answer(204)


@frozen
class _ProxyFields:
    """The fields of a proxy's object."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    udp: bool

    @classmethod
    def read(cls, table: dict[str, Any]) -> "_ProxyFields":
        protocol = field(table, "protocol", str, "tcp")
        if protocol not in ("tcp", "udp"):
            raise BadRequest(f"protocol: {protocol!r}: 'tcp' or 'udp'")
        return cls(
            field(table, "name", str, ""),
            field(table, "listen", str, ""),
            field(table, "upstream", str, ""),
            field(table, "enabled", bool, True),
            protocol == "udp",
        )

    def check(self, place: str = "") -> None:
        """Raise `ProxyError` for a field that is missing."""
        for name in ("name", "upstream"):
            if not getattr(self, name):
                raise ProxyError(f"missing required field: {name}{place}", 400)


def _call(handler: Handler, body: bytes, *names: str) -> Answer:
    """Return the answer of a handler, or that of the error that it raises."""
    try:
        return handler(body, *names)
    except ProxyError as error:
        return error_answer(str(error), error.status)
    except WrongToxic as error:
        return error_answer(str(error), 400)
    except BadRequest as error:
        return error_answer(f"bad request body: {error}", 400)


def _check_movable(proxy: Proxy) -> None:
    """Raise `ProxyError` for a proxy whose addresses the API cannot change."""
    if proxy.fixed:
        text = f"{proxy.name} is a listener of the server: its configuration has its address"
        raise ProxyError(text, 409)


def _check_listen(text: str) -> None:
    """Raise `ProxyError` for an address on which no proxy can listen."""
    try:
        parse_listen(text)
    except ListenError as error:
        raise ProxyError(str(error), 500) from None


def _same_listen(proxy: Proxy, listen: str) -> bool:
    """Return True if a proxy has an address to listen on; one with port 0 is always another."""
    if not proxy.enabled or proxy.listen == listen:
        return proxy.listen == listen
    (host, port), (other_host, other_port) = parse_listen(proxy.listen), parse_listen(listen)
    if not other_port:
        return False
    return show_listen(host, port) == show_listen(resolve(other_host), other_port)


def _shown(proxies: Sequence[Proxy]) -> list[dict[str, Any]] | None:
    """Return the objects of proxies; None if there are none, as toxiproxy has it."""
    return [proxy.show() for proxy in proxies] or None


def _cleaned(path: str) -> str:
    """Return a path without empty segments and dots, as Go's mux redirects to it."""
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            segments = segments[:-1]
        elif segment not in ("", "."):
            segments.append(segment)
    end = "/" if path.endswith("/") and segments else ""
    return "/" + "/".join(segments) + end


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, f"{json.dumps(value)}\n".encode(), JSON)


def error_answer(text: str, status: int, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
    """Return the answer of an error, as toxiproxy has it: JSON that is called text."""
    body = json.dumps({"error": text, "status": status}) + "\n"
    return Answer(status, body.encode(), TEXT, headers)
