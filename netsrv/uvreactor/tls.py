"""TLS on a connection of uvloop, with Twisted's TLS protocol."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.protocols.tls import TLSMemoryBIOFactory


class TLSTransport:
    """What the TLS protocol writes to: *connection*, but below TLS.

    *write*, *loseConnection*, *registerProducer* and *unregisterProducer* are those of the
    connection without TLS; everything else is the connection's.
    """

    def __init__(
        self,
        connection: Any,
        write: Callable[[bytes], None],
        loseConnection: Callable[[], None],
        registerProducer: Callable[[Any, bool], None],
        unregisterProducer: Callable[[], None],
    ) -> None:
        self._connection = connection
        self.write = write
        self.loseConnection = loseConnection
        self.registerProducer = registerProducer
        self.unregisterProducer = unregisterProducer

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def make_tls_protocol(contextFactory: Any, protocol: Any, normal: bool) -> Any:
    """Return a TLS protocol around *protocol*: the server's, or the client's if not *normal*."""
    factory = TLSMemoryBIOFactory(contextFactory, not normal, None)  # type: ignore[arg-type]
    return factory.protocol(factory, protocol, False)
