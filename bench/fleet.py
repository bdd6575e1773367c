"""Count what clients lose while three servers behind HAProxy are replaced, one after the other.

Usage: python -m bench.fleet [--rounds N] [--clients N] [--pause S] [--way agent|recipe]

The configuration of HAProxy is that of ``deploy/haproxy/``, with other ports.  Each client
connects, sends a line, reads the answer with the version of the server, and closes; some stay for
a while.  A round replaces each server by one of the next version: by SIGTERM and the agent, or by
``roll.sh``.  A connection that fails or is refused, or an answer that is wrong or late, counts as
failed.
"""

import argparse
import asyncio
import os
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.measure import machine
from bench.processes import TOP
from tests.process import thirdparty
from tests.process.activation import free_port
from tests.process.running import Running
from tests.timeouts import TIMEOUT

DEPLOY = TOP / "deploy" / "haproxy"
HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH')}:/usr/sbin") or "/usr/sbin/haproxy"
SERVERS = "abc"
STAY_EVERY = 10
"""One in so many connections stays open for `STAY` seconds."""
STAY = 0.3
SHUTDOWN_DELAY = 1.0
AGENT_INTERVAL = "100ms"
"""How often HAProxy asks in a measurement, instead of once a second."""

SERVICE = """
import os

class Version(Protocol):
    def dataReceived(self, data):
        self.transport.write(os.environ["FLEET_VERSION"].encode() + b" " + data)

version = Service("version", Version)
"""

GLOBAL = "global\n    stats socket unix@admin.sock level admin\n"


class Load(threading.Thread):
    """Clients that connect one time after the other, until they are stopped."""

    def __init__(self, port: int, clients: int, pause: float) -> None:
        super().__init__(daemon=True)
        self.results: Counter[str] = Counter()
        """How often each version has answered, and each failure."""
        self._port, self._clients, self._pause = port, clients, pause
        self._stopping = False

    def run(self) -> None:
        asyncio.run(self._run_all())

    def stop(self) -> None:
        """Let each client end its connection."""
        self._stopping = True
        self.join(TIMEOUT)

    async def _run_all(self) -> None:
        await asyncio.gather(*map(self._run_client, range(self._clients)))

    async def _run_client(self, number: int) -> None:
        count = number
        while not self._stopping:
            count += 1
            token = f"{number}-{count}"
            try:
                answer = await asyncio.wait_for(self._ask(token, count), TIMEOUT)
            except (TimeoutError, OSError, EOFError) as error:
                self.results[f"failed: {type(error).__name__}: {error}"] += 1
                continue
            version, _, echoed = answer.partition(" ")
            self.results[version if echoed == token else f"failed: {answer!r}"] += 1
            await asyncio.sleep(self._pause)

    async def _ask(self, token: str, count: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            if count % STAY_EVERY == 0:
                await asyncio.sleep(STAY)
            writer.write(f"{token}\n".encode())
            return (await reader.readuntil(b"\n")).decode().rstrip("\n")
        finally:
            writer.close()


class Fleet:
    """HAProxy with three servers, in *folder*; *stack* ends them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        thirdparty.services(folder, SERVICE)
        self._addresses = {
            name: (f"127.0.0.{11 + index}", free_port(), free_port())
            for index, name in enumerate(SERVERS)
        }
        self.port = free_port()
        self.servers = {name: self._serve(name, 1) for name in SERVERS}
        (folder / "global.cfg").write_text(GLOBAL)
        (folder / "netsrv.cfg").write_text(self._configuration())
        command = [HAPROXY, "-f", "global.cfg", "-f", "netsrv.cfg"]
        self.haproxy = stack.enter_context(Running(command, folder))
        self.wait_until(lambda: all(self.status(name) == "UP" for name in SERVERS))

    def _configuration(self) -> str:
        text = (DEPLOY / "netsrv.cfg").read_text()
        text = text.replace("bind :7000", f"bind 127.0.0.1:{self.port}")
        text = text.replace("inter 2s", f"inter {AGENT_INTERVAL}")
        text = text.replace("agent-inter 1s", f"agent-inter {AGENT_INTERVAL}")
        text = text.replace(" agent-port 7008", "")
        for host, port, agent in self._addresses.values():
            text = text.replace(f"{host}:7007", f"{host}:{port} agent-port {agent}")
        return text

    def _serve(self, name: str, version: int) -> Running:
        host, port, agent = self._addresses[name]
        listeners = ["--tcp", f"version={host}:{port}", "--tcp", f"agent={host}:{agent}"]
        options = ["--shutdown-delay", str(SHUTDOWN_DELAY), "--log-rate", "0"]
        environ = {**thirdparty.on_path(self._folder), "FLEET_VERSION": str(version)}
        command = ["netsrv", "serve", *listeners, *options]
        server = self._stack.enter_context(Running(command, self._folder, environ))
        server.port("tcp", 2)
        return server

    def statistics(self, name: str) -> dict[str, str]:
        """Return what HAProxy says of a server, or of the ``BACKEND``."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(self._folder / "admin.sock"))
            sock.sendall(b"show stat\n")
            lines = sock.makefile().read().removeprefix("# ").splitlines()
        rows = (dict(zip(lines[0].split(","), line.split(","), strict=False)) for line in lines[1:])
        return next(row for row in rows if (row.get("pxname"), row["svname"]) == ("echo", name))

    @property
    def refused(self) -> int:
        """Connections of clients that a server has refused, so that HAProxy tried another one."""
        return sum(int(self.statistics("BACKEND")[field]) for field in ("wretr", "wredis"))

    def status(self, name: str) -> str:
        """Return HAProxy's word for the state of a server; empty before HAProxy serves."""
        try:
            row = self.statistics(name)
        except OSError:
            return ""
        return row["status"] if row["agent_status"] == "L7OK" else f"{row['status']}, not asked"

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a state of HAProxy, which is asked each 50 ms."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, self.haproxy.output
            time.sleep(0.05)

    def replace_by_agent(self, name: str, version: int) -> None:
        """Stop a server and start the next version; the agent tells HAProxy both."""
        self._restart(name, version)
        self.wait_until(lambda: self.status(name) == "UP")

    def replace_by_recipe(self, name: str, version: int) -> None:
        """Have ``roll.sh`` do it: its command ends when the next version serves."""
        fifo = self._folder / "restarted"
        os.mkfifo(fifo)
        command = [str(DEPLOY / "roll.sh"), f"echo/{name}", "cat", str(fifo)]
        with Running(command, self._folder, {"HAPROXY_SOCKET": "admin.sock"}) as roll:
            with fifo.open("w"):  # roll.sh has begun to wait
                self._restart(name, version)
            assert roll.wait() == 0, roll.output
        fifo.unlink()

    def _restart(self, name: str, version: int) -> None:
        assert self.servers[name].stop() == 0, self.servers[name].output
        self.servers[name] = self._serve(name, version)


WAYS = {"agent": Fleet.replace_by_agent, "recipe": Fleet.replace_by_recipe}


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Run a fleet until the block ends."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        yield Fleet(Path(folder), stack)


def roll(
    running: Fleet, way: str, version: int, rounds: int, clients: int, pause: float
) -> Counter[str]:
    """Replace all servers *rounds* times under load; return the results of the clients.

    *version* is the present one.
    """
    load = Load(running.port, clients, pause)
    load.start()
    running.wait_until(lambda: bool(load.results))
    for number in range(1, rounds + 1):
        for name in SERVERS:
            WAYS[way](running, name, version + number)
    before = load.results.copy()
    running.wait_until(lambda: load.results[str(version + rounds)] > before[str(version + rounds)])
    load.stop()
    return load.results


def main() -> None:
    """Run the measurement in the ways that are asked for."""
    parser = argparse.ArgumentParser(prog="bench.fleet", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="default 20")
    parser.add_argument("--clients", type=int, default=8, help="default 8")
    parser.add_argument("--pause", type=float, default=0, help="seconds between connections")
    parser.add_argument("--way", choices=WAYS, help="default: each of them")
    options = parser.parse_args()
    print(machine())
    for way in [options.way] if options.way else WAYS:
        with fleet() as running:
            results = roll(running, way, 1, options.rounds, options.clients, options.pause)
            refused = running.refused
        failed = {text: count for text, count in results.items() if text.startswith("failed")}
        replaced = options.rounds * len(SERVERS)
        print(f"{way}: {replaced} servers replaced, {results.total()} connections, ", end="")
        print(f"{sum(failed.values())} failed, {refused} tried at another server", flush=True)
        for text, count in failed.items():
            print(f"{way}: {count} {text}", flush=True)


if __name__ == "__main__":
    main()
