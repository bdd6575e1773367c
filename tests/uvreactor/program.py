"""Programs in processes of their own, on a reactor that they install first."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.checkout import TOP
from tests.timeouts import TIMEOUT

MODULES = {
    "uvloop": "netsrv.uvreactor",
    "epoll": "twisted.internet.epollreactor",
    "asyncio": "twisted.internet.asyncioreactor",
}
"""The reactors by name, and the modules that install them."""

PREFIX = """
import asyncio, importlib, json, os, signal, socket, struct, subprocess, sys, threading, time
importlib.import_module(sys.argv[1]).install()
from twisted.internet import defer, error, protocol, reactor, task

def show(value):
    print(json.dumps(value), flush=True)

def serve(make, **options):
    factory = protocol.Factory()
    factory.noisy = False
    factory.buildProtocol = make
    return reactor.listenTCP(0, factory, interface="127.0.0.1", **options)

def in_thread(script, *arguments):
    def whole():
        try:
            script(*arguments)
        finally:
            reactor.callFromThread(reactor.stop)
    reactor.callWhenRunning(reactor.callInThread, whole)

def connect(port):
    return socket.create_connection(("127.0.0.1", port.getHost().port), 10)

def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
"""


def beside(*names: str) -> list[Any]:
    """Return the reactors of a test: ours, and those of Twisted that it is compared with."""
    independent = pytest.mark.version_independent
    return ["uvloop", *(pytest.param(name, marks=independent) for name in names)]


def output_of(source: str, reactor: str = "uvloop", *arguments: str) -> list[Any]:
    """Run a program on a reactor; return the values that it has shown."""
    done = subprocess.run(
        [sys.executable, "-c", PREFIX + source, MODULES[reactor], *arguments],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
