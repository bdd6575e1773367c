"""Put a program of others to work on a reactor: ``python -m tests.uvreactor.at_work MODULE NAME``.

MODULE has the ``install`` of the reactor, and NAME is a function of this module.  The last line
of the output tells how much work was done; the exit status is 0 if all of it was right.
"""

import importlib
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PAGES = 100


def site() -> Any:
    """Serve pages that link to each other, on a free port; return the port."""
    from twisted.internet import reactor
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            number = int(request.path.strip(b"/") or 0)
            request.setHeader(b"content-type", b"text/html")
            links = "".join(f'<a href="/{(number * 3 + step) % PAGES}">x</a>' for step in range(4))
            return links.encode() + b"x" * 20000

        def render_POST(self, request: Any) -> bytes:
            return b"%d" % len(request.content.read())

    factory: Any = Site(Page())
    factory.noisy = False
    return reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]


def scrapy() -> bool:
    """Crawl all pages of a site."""
    import scrapy
    from scrapy.crawler import CrawlerProcess
    from twisted.internet import reactor

    url = f"http://127.0.0.1:{site().getHost().port}/"
    seen = set()

    class Spider(scrapy.Spider):
        name = "spider"
        start_urls = (url,)

        def parse(self, response: Any) -> Any:
            seen.add(response.url)
            yield from response.follow_all(css="a")

    kind = type(reactor)
    path = f"{kind.__module__}.{kind.__qualname__}"
    process = CrawlerProcess({"LOG_LEVEL": "ERROR", "TWISTED_REACTOR": path})
    process.crawl(Spider)
    process.start()
    print(f"{len(seen)} of {PAGES + 1} pages")
    return len(seen) == PAGES + 1


def daphne() -> bool:
    """Serve requests of an ASGI application."""
    from daphne.server import Server
    from twisted.internet import reactor

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 100000})

    right = 0

    def ask(server: Any) -> None:
        nonlocal right
        with suppress(OSError):
            while not server.listening_addresses:
                time.sleep(0.01)
            host, port = server.listening_addresses[0]
            for _ in range(100):
                with urllib.request.urlopen(f"http://{host}:{port}/", timeout=10) as answer:
                    right += len(answer.read()) == 100000
        reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]

    server = Server(application, endpoints=["tcp:0:interface=127.0.0.1"], signal_handlers=False)
    threading.Thread(target=ask, args=(server,)).start()
    server.run()
    print(f"{right} of 100 requests")
    return right == 100


def treq() -> bool:
    """Get and post, many requests at once, over connections that are used again."""
    import treq
    from twisted.internet import defer, reactor, task

    url = f"http://127.0.0.1:{site().getHost().port}/"
    right = 0

    async def ask(number: int) -> None:
        nonlocal right
        response: Any = await treq.get(f"{url}{number % PAGES}")
        right += len(await response.content()) > 20000
        response = await treq.post(url, data=bytes(100000))
        right += await response.content() == b"100000"

    async def main(reactor: Any) -> None:
        for _ in range(10):
            asked = [defer.Deferred.fromCoroutine(ask(number)) for number in range(20)]
            await defer.gatherResults(asked)
        await treq._utils.get_global_pool().closeCachedConnections()

    with suppress(SystemExit):
        task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor)), _reactor=reactor)
    print(f"{right} of 400 requests")
    return right == 400


def autobahn() -> bool:
    """Exchange messages of many sizes over WebSockets."""
    from autobahn.twisted import websocket
    from twisted.internet import reactor

    class Echo(websocket.WebSocketServerProtocol):  # type: ignore[misc]
        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            self.sendMessage(payload, isBinary)

    sizes = [0, 1, 125, 126, 65535, 65536, 1000000] * 20
    right = 0

    class Client(websocket.WebSocketClientProtocol):  # type: ignore[misc]
        left: list[int]

        def onOpen(self) -> None:
            self.left = list(sizes)
            self.sendMessage(bytes(self.left[-1]), True)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            nonlocal right
            right += len(payload) == self.left.pop()
            if self.left:
                self.sendMessage(bytes(self.left[-1]), True)
            else:
                self.sendClose()

        def onClose(self, clean: bool, code: Any, reason: Any) -> None:
            reactor.stop()  # type: ignore[attr-defined]

    server = websocket.WebSocketServerFactory()
    server.protocol = Echo
    port = reactor.listenTCP(0, server, interface="127.0.0.1").getHost().port  # type: ignore[attr-defined]
    client = websocket.WebSocketClientFactory(f"ws://127.0.0.1:{port}")
    client.protocol = Client
    reactor.connectTCP("127.0.0.1", port, client)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
    print(f"{right} of {len(sizes)} messages")
    return right == len(sizes)


if __name__ == "__main__":
    importlib.import_module(sys.argv[1]).install()
    program: Callable[[], bool] = globals()[sys.argv[2]]
    sys.exit(0 if program() else 1)
