"""HTTP on the connections of a status listener, by `twisted.web`.

A client can make the server hold little: its headers, which `twisted.web` bounds, and one answer.
The content of a request is dropped.  There are at most `MAX_CHANNELS` connections; one more ends
the one that has not asked for longest.
"""

import io
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.web import http

from netsrv.status.site import COMMON_HEADERS, Answer, Request, Site

MAX_CHANNELS = 24
"""Connections of a listener.  Those of two listeners fit into the reserve of descriptors."""

MAX_ARGUMENTS = 20
"""Arguments of a request, each ``exclude`` included."""


def parse_query(query: str) -> dict[str, list[str]]:
    """Return the arguments of a query; none if there are more than `MAX_ARGUMENTS`."""
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=MAX_ARGUMENTS)
    except ValueError:
        return {}


class StatusRequest(http.Request):
    """A request, which the site of its channel answers."""

    channel: Any
    content: Any

    def gotLength(self, length: int | None) -> None:
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Drop the content: no path takes any."""

    def process(self) -> None:
        self.channel.touch()
        query = self.uri.decode("latin-1").partition("?")[2]
        request = Request(
            self.method.decode("latin-1"),
            self.path.decode("latin-1"),
            parse_query(query),
            self._headers,
            self.content.getvalue(),
        )
        self.channel.site.answer(request).addCallbacks(self._send, self._failed)

    def _headers(self, name: str) -> list[str]:
        return list(self.requestHeaders.getRawHeaders(name, []))

    def _send(self, answer: Answer) -> None:
        if self._disconnected:
            return
        self.setResponseCode(answer.status)
        headers = {**COMMON_HEADERS, **answer.headers}
        if answer.content_type:
            headers["Content-Type"] = answer.content_type
        if answer.status not in http.NO_BODY_CODES:
            headers["Content-Length"] = str(len(answer.body))
        for name, value in headers.items():
            self.responseHeaders.setRawHeaders(name, value if isinstance(value, list) else [value])
        self.write(answer.body)
        self.finish()

    def _failed(self, failure: Failure) -> None:
        self.channel.site_failed(failure)
        self._send(Answer(500, b"an error of the server: see its log\n", "text/plain"))


class StatusChannel(http.HTTPChannel):
    """A connection of a client."""

    requestFactory = StatusRequest
    timeOut = None  # the limits of the gate apply

    def __init__(self, channels: "StatusFactory") -> None:
        super().__init__()
        self._channels = channels
        self.site = channels.site

    def touch(self) -> None:
        """Note that the client has asked for something."""
        self._channels.touch(self)

    def site_failed(self, failure: Failure) -> None:
        """Log an exception of the site."""
        self._log.failure("The status server has failed", failure)

    def connectionMade(self) -> None:
        self._channels.touch(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._channels.forget(self)
        super().connectionLost(reason)


class StatusFactory(ServerFactory):
    """Makes a channel for each connection."""

    noisy = False

    def __init__(self, site: Site) -> None:
        self.site = site
        self._channels: dict[StatusChannel, None] = {}

    def buildProtocol(self, addr: Any) -> StatusChannel:
        return StatusChannel(self)

    def touch(self, channel: StatusChannel) -> None:
        """Keep a channel as the one that was used last, and end the oldest if there are many."""
        self._channels.pop(channel, None)
        self._channels[channel] = None
        if len(self._channels) > MAX_CHANNELS:
            oldest = next(iter(self._channels))
            del self._channels[oldest]
            transport: Any = oldest.transport
            transport.abortConnection()

    def forget(self, channel: StatusChannel) -> None:
        """Forget a channel that is lost."""
        self._channels.pop(channel, None)
