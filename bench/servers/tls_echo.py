"""echo over TLS on a free port: on uvloop's own TLS, or on Twisted's with epoll.

``tls_echo.py uvloop|twisted CERTIFICATE KEY`` prints the port.
"""

import asyncio
import ssl
import sys


def serve_uvloop(certificate: str, key: str) -> None:
    """Serve on uvloop, with its own TLS."""
    import uvloop

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=context)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.install()
    asyncio.run(serve())


def serve_twisted(certificate: str, key: str) -> None:
    """Serve on Twisted's epoll reactor, with its TLS."""
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import protocol, reactor
    from twisted.internet import ssl as twisteds

    class Echo(protocol.Protocol):
        def dataReceived(self, data):
            self.transport.write(data)

    factory = protocol.Factory.forProtocol(Echo)
    contexts = twisteds.DefaultOpenSSLContextFactory(key, certificate)
    port = reactor.listenSSL(0, factory, contexts, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    {"uvloop": serve_uvloop, "twisted": serve_twisted}[sys.argv[1]](*sys.argv[2:])
