"""A TLS client in memory: Python's ssl on a connection to a `MemoryServer`."""

import ssl
from contextlib import suppress


def client_context(authority, certificate=None, **attributes):
    """Return a context that trusts the authority; *attributes* are set on it."""
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate is not None:
        context.load_cert_chain(*map(str, certificate))
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


class TLSClient:
    """A client on *connection*, a `netsrv.testing.servers.Client`."""

    def __init__(self, connection, context, name="localhost", session=None):
        self.connection = connection
        self.ended = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=name, session=session
        )

    def taken(self):
        """Return the ciphertext that is to be sent."""
        return self._outgoing.read()

    def flush(self):
        """Send what is to be sent."""
        data = self.taken()
        if data:
            self.connection.send(data)

    def shake_hands(self):
        """Complete the handshake.  Raises what `ssl` raises."""
        for _ in range(5):
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.connection.read()
                self._incoming.write(data)
                if not data and self.connection.close_kind == "closed":
                    self._incoming.write_eof()
            else:
                break
            finally:
                self.flush()
        self.flush()
        return self

    def write(self, data):
        """Encrypt and send."""
        self.ssl.write(data)
        self.flush()

    def read(self):
        """Return the plaintext that has come; `ended` is set at close_notify."""
        self._incoming.write(self.connection.read())
        plain = b""
        while True:
            try:
                data = self.ssl.read(65536)
            except ssl.SSLWantReadError:
                return plain
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                self.ended = True
                return plain
            plain += data

    def notify(self):
        """Send close_notify."""
        with suppress(ssl.SSLWantReadError):
            self.ssl.unwrap()
        self.flush()


def connect(server, context, name="localhost", session=None, **keywords):
    """Connect to a `MemoryServer` and complete the handshake."""
    keywords = {"keep_open": True, **keywords}
    return TLSClient(server.connect(**keywords), context, name, session).shake_hands()
