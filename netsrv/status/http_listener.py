"""A listener for HTTP: the status, and the control API.

It is none of the server's listeners: it has a gate, slots and limits of its own, and answers also
when no other listener accepts.
"""

from collections.abc import Callable
from typing import Any

from netsrv.config.model import Transport
from netsrv.gate import Gate
from netsrv.guards.admission import Admission
from netsrv.guards.capacity import ConnectionSlots
from netsrv.guards.limits import Limits
from netsrv.interfaces import IObserver, ListenerInfo
from netsrv.sockets.opening import OpenSocket
from netsrv.status.channel import MAX_CHANNELS, StatusFactory
from netsrv.streams.listener import StreamListener

LIMITS = Limits(
    max_connections=MAX_CHANNELS + 4,  # one more than `MAX_CHANNELS` is accepted to end another
    idle_timeout=120.0,
    write_timeout=10.0,
    close_grace=2.0,
)
"""The limits of such a listener."""

LOG_RATE = 10
"""Lines a second about the clients of such a listener."""


class HttpListener:
    """Serves what *factory* makes on an open socket, which the log calls *service*."""

    def __init__(
        self,
        reactor: Any,
        opened: OpenSocket,
        factory: StatusFactory,
        service: str,
        observer: IObserver,
        now: Callable[[], float],
    ) -> None:
        self.service = service
        self._opened = opened
        transport = Transport.TCP if opened.host else Transport.UNIX
        info = ListenerInfo(transport, opened.address, service)
        admission = Admission(LIMITS, ConnectionSlots(), now())
        gate = Gate(reactor, info, observer, admission, LIMITS, now)
        self._listener = StreamListener(reactor, opened.sock, gate, factory)
        self._listener.start()

    @property
    def url(self) -> str:
        """The address as a browser or a client takes it."""
        opened = self._opened
        return f"http://{opened.address}/" if opened.host else f"unix:{opened.address}"

    def close(self) -> None:
        """Close the socket, and abort the connections."""
        self._listener.suspend()
        self._listener.detach()
        self._opened.close()
        self._listener.gate.abort_all()
