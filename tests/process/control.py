"""A server with a control API for tests, and requests to it."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.process.running import Running
from tests.timeouts import TIMEOUT


class ControlledServer:
    """A running `netsrv serve --control`: its API, and the ports of its echo listeners."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.api_port = int(running.wait_for(r"Serving control on http://127.0.0.1:(\d+)/")[1])
        self.tcp, self.udp = running.port("tcp"), running.port("udp")

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def upstream(self) -> str:
        """The address of an echo server."""
        return f"127.0.0.1:{self.tcp}"

    def ask(self, method: str, path: str, content: object = None, host: str = "127.0.0.1", **more):
        """Send a request; return the status and the JSON, or the text, of the answer."""
        connection = http.client.HTTPConnection(host, self.api_port, timeout=TIMEOUT)
        body = None if content is None else json.dumps(content)
        try:
            connection.request(method, path, body, more)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text


@contextmanager
def controlled_server(folder: Path, *options: str) -> Iterator[ControlledServer]:
    """Run a server until the end of the block."""
    echo = ("--tcp", "echo=127.0.0.1:0", "--udp", "echo=127.0.0.1:0")
    command = ("netsrv", "serve", *echo, "--control", "127.0.0.1:0", *options)
    with Running(command, folder) as running:
        yield ControlledServer(running)
