"""The types that users' programs see, checked by mypy as strictly as ours."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.checkout import TOP

pytestmark = pytest.mark.version_independent

SETTINGS = ["--config-file", str(TOP / "setup.cfg"), "--cache-dir", str(TOP / ".mypy_cache")]


def test_the_examples_types_are_right(tmp_path):
    """mypy passes the examples outside the checkout: netsrv's types are published."""
    for name in ("embedded.py", "test_with_trial.py"):
        shutil.copy(TOP / "examples" / name, tmp_path)
    mypy = [sys.executable, "-m", "mypy", *SETTINGS, "."]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


USERS_TEST = """
import asyncio
import re

from netsrv.fixture import (
    ActiveFault, NetsrvProxy, NetsrvServer, ServerProcess, delay, expect, reply, reset, start_server
)


async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


class Service:
    pass


def test_faults(netsrv_server: NetsrvServer, netsrv_proxy: NetsrvProxy) -> None:
    server = netsrv_server("echo")
    with server.latency(100, jitter=20, stream="both"), server.refuse(first=3) as refusing:
        hits: int = refusing.hits + server.hits("latency")
    fault: ActiveFault = netsrv_proxy(server, protocol="udp").loss(0.1, seed=7, ttl=0.5)
    server.listeners[0].fault("own", anything=hits)
    server.reset_all()
    fault.remove()


async def test_all(netsrv_server: NetsrvServer) -> None:
    server: ServerProcess = netsrv_server("echo", host="::1", port=0, max_connections=3)
    netsrv_server(handler, idle_timeout=0.5, socket_options={"SO_RCVBUF": 4096})
    netsrv_server(Service, transport="udp", journal_size=20)
    netsrv_server.script(expect(re.compile(rb"x+")), delay(1), reply(b"y"), lifetime=3)
    netsrv_server.script([reset()], [], "echo", handler, only_from=["127.0.0.0/8"])
    await server.async_wait_for_connections(1)
    received: list[bytes] = server.received
    with start_server(config="[[listener]]") as other:
        other.restart()
        assert received == other.received
"""

MISTAKES = {
    'netsrv_server("echo", idle_timout=3)': '"__call__" of "NetsrvServer"; did you mean "idle_ti',
    'netsrv_server("echo", overload="drop")': 'Argument "overload" to "__call__" of "NetsrvServer',
    'netsrv_server("echo", transport="sctp")': 'Argument "transport" to "__call__" of "NetsrvServ',
    "netsrv_server.script(idle_timeout=3, rate=2)": 'Unexpected keyword argument "rate" for "scri',
    'netsrv_server("echo").latency(100, jiter=3)': 'Unexpected keyword argument "jiter" for "laten',
    'netsrv_server("echo").refuse("drop")': 'Argument 1 to "refuse" of "FaultMethods" has incompat',
    'netsrv_server.script("echo", reply("x"))': 'Argument 1 to "reply" has incompatible type "str"',
}


def test_a_users_test_is_typed(tmp_path):
    """mypy --strict passes a test with the fixture, and finds each wrong option in it."""
    (tmp_path / "test_client.py").write_text(USERS_TEST)
    lines = [f"    {mistake}" for mistake in MISTAKES]
    (tmp_path / "test_wrong.py").write_text(
        "from netsrv.fixture import NetsrvServer, reply\n"
        "def test_wrong(netsrv_server: NetsrvServer) -> None:\n" + "\n".join(lines)
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", *SETTINGS, "test_client.py", "test_wrong.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"Found {len(MISTAKES)} errors in 1 file (checked 2 source files)" in done.stdout
    for number, text in enumerate(MISTAKES.values(), 3):
        assert re.search(rf"test_wrong.py:{number}: error: .*{re.escape(text)}", done.stdout)


def test_a_mistake_in_a_keyword_is_one_of_types(tmp_path):
    """mypy finds a wrong keyword before the program runs."""
    code = 'from netsrv.server import listener\nlistener("tcp", 7, "echo", max_conections=5)\n'
    (tmp_path / "program.py").write_text(code)
    mypy = [sys.executable, "-m", "mypy", *SETTINGS, "program.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'Unexpected keyword argument "max_conections"' in done.stdout
