"""The paths of the status server, and what it answers to each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from attrs import field, frozen
from twisted.internet.defer import Deferred, ensureDeferred, succeed

from netsrv.status.access import AccessRules, Headers, Refusal
from netsrv.status.document import render_document
from netsrv.status.exposition import choose_type, render_metrics
from netsrv.status.health import liveness_checks, readiness_checks, report
from netsrv.status.page_files import PageFiles
from netsrv.status.source import StatusSource

T = TypeVar("T")

JSON_TYPE = "application/json"
PLAIN_TYPE = "text/plain; charset=utf-8"

METHODS = ("GET", "HEAD")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)

COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer."""

HEALTH_CHECKS = {
    "/livez": liveness_checks,
    "/readyz": readiness_checks,
    "/healthz": readiness_checks,
}

MAX_SINCE_DIGITS = 15


@frozen
class Request:
    """A request, as this module sees it."""

    method: str
    path: str
    arguments: Mapping[str, Sequence[str]] = field(factory=dict)
    headers: Headers = lambda _name: ()
    body: bytes = b""


@frozen
class Answer:
    """An answer to a request."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str | list[str]] = field(factory=dict)


class Site(Protocol):
    """Answers requests."""

    def answer(self, request: Request) -> Deferred[Answer]:
        """Answer a request."""


class HealthSite:
    """Answers to probes only, and does not tell why a check fails."""

    _reasons = False

    def __init__(self, source: StatusSource) -> None:
        self._source = source

    def answer(self, request: Request) -> Deferred[Answer]:
        """Answer a request."""
        if request.method not in METHODS:
            return succeed(_text(405, "only GET and HEAD", {"Allow": ", ".join(METHODS)}))
        if request.path in HEALTH_CHECKS:
            return succeed(self._health(request))
        return self._answer_more(request)

    def _answer_more(self, _request: Request) -> Deferred[Answer]:
        return succeed(_text(404, f"there are {', '.join(HEALTH_CHECKS)}"))

    def _health(self, request: Request) -> Answer:
        passed, text = report(
            request.path[1:],
            HEALTH_CHECKS[request.path](self._source),
            request.arguments.get("exclude", ()),
            "verbose" in request.arguments,
            self._reasons,
        )
        return Answer(200 if passed else 503, text.encode(), PLAIN_TYPE)


class StatusSite(HealthSite):
    """Answers all requests.

    *files* are those of the page.  *more* returns what the status has besides the snapshot, for
    the number of the last row of the history that the client has.  *in_thread* calls a function
    in a thread.
    """

    _reasons = True

    def __init__(
        self,
        source: StatusSource,
        rules: AccessRules,
        files: PageFiles,
        more: Callable[[int], Mapping[str, Any]],
        in_thread: Callable[[Callable[[], bytes]], Deferred[bytes]],
    ) -> None:
        super().__init__(source)
        self.rules = rules
        """Which requests are answered, those of health excepted."""
        self._files = files
        self._more = more
        self._in_thread = in_thread

    def _answer_more(self, request: Request) -> Deferred[Answer]:
        refusal = self.rules.refuse(request.headers)
        if refusal is not None:
            return succeed(_refused(refusal))
        if request.path == "/status.json":
            return ensureDeferred(self._document(request))
        if request.path == "/metrics":
            return ensureDeferred(self._metrics(request))
        if request.path in self._files:
            content_type, body = self._files[request.path]
            return succeed(Answer(200, body, content_type))
        paths = ["/status.json", "/metrics", *HEALTH_CHECKS]
        return succeed(_text(404, f"there are {', '.join(paths)}"))

    async def _document(self, request: Request) -> Answer:
        [since] = request.arguments.get("since", ())[-1:] or ["0"]
        if not (since.isascii() and since.isdigit() and len(since) <= MAX_SINCE_DIGITS):
            return _error(400, "since: the number of a row of the history")
        snapshot = await self._source.take_snapshot()
        more = self._more(int(since))
        brief = "brief" in request.arguments
        body = await self._in_thread(lambda: render_document(snapshot, more, brief))
        return Answer(200, body, JSON_TYPE)

    async def _metrics(self, request: Request) -> Answer:
        content_type = choose_type(",".join(request.headers("Accept")))
        snapshot = await self._source.take_snapshot()
        body = await self._in_thread(lambda: render_metrics(snapshot, content_type))
        return Answer(200, body, content_type)


def _refused(refusal: Refusal) -> Answer:
    answer = _error(refusal.status, refusal.reason)
    if refusal.status != 401:
        return answer
    schemes = ['Bearer realm="netsrv"', 'Basic realm="netsrv", charset="UTF-8"']
    return Answer(401, answer.body, JSON_TYPE, {"WWW-Authenticate": schemes})


def _error(status: int, reason: str) -> Answer:
    return Answer(status, b'{"error": "%s"}\n' % reason.encode(), JSON_TYPE)


def _text(status: int, text: str, headers: Mapping[str, str | list[str]] | None = None) -> Answer:
    return Answer(status, f"{text}\n".encode(), PLAIN_TYPE, headers or {})
