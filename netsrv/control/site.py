"""HTTP for the control API, by the channel of the status server, with contents of requests."""

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from netsrv.control.api import Api, error_answer
from netsrv.status.access import AccessRules
from netsrv.status.channel import StatusChannel, StatusFactory, StatusRequest
from netsrv.status.site import Answer, Request

MAX_BODY_SIZE = 2**20
"""Bytes of the content of a request."""


class ControlSite:
    """Answers with the *api* the requests that *rules* let pass."""

    def __init__(self, api: Api, rules: AccessRules) -> None:
        self.rules = rules
        self._api = api

    def answer(self, request: Request) -> Deferred[Answer]:
        """Answer a request."""
        return maybeDeferred(self._answer, request)

    def _answer(self, request: Request) -> Answer:
        refusal = self.rules.refuse(request.headers)
        if refusal is not None:
            needed = {"WWW-Authenticate": 'Bearer realm="netsrv"'} if refusal.status == 401 else {}
            return error_answer(refusal.reason, refusal.status, needed)
        if len(request.body) > MAX_BODY_SIZE:
            return error_answer(f"the content has more than {MAX_BODY_SIZE} bytes", 413)
        [agent] = request.headers("User-Agent")[-1:] or [""]
        return self._api.answer(request.method, request.path, request.body, agent)


class ControlRequest(StatusRequest):
    """A request with its content, as far as it is short enough."""

    def handleContentChunk(self, data: bytes) -> None:
        if self.content.tell() <= MAX_BODY_SIZE:
            self.content.write(data)


class ControlChannel(StatusChannel):
    """A connection of a client."""

    requestFactory = ControlRequest


class ControlFactory(StatusFactory):
    """Makes a channel for each connection."""

    def buildProtocol(self, addr: Any) -> StatusChannel:
        return ControlChannel(self)
