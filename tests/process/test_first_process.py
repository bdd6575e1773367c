"""Process 1 of a container: signals, exit statuses, zombies; and a container's restrictions."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.checkout import TOP
from tests.clients import exchange, tcp
from tests.process import needs
from tests.process.children import all_children
from tests.process.running import BIN, Running
from tests.timeouts import TIMEOUT

HEAD = "import os, signal, sys; from netsrv.cli.first_process import continue_in_child; "
CONTINUE = "continue_in_child(os.environ); "


def run(code: str, tmp_path, **environ: str) -> Running:
    """Run code in a process of its own."""
    return Running([sys.executable, "-uc", HEAD + code], tmp_path, environ)


@pytest.mark.parametrize(
    ("code", "status"),
    [("sys.exit(7)", 7), ("pass", 0), ("os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_the_exit_status_is_that_of_the_server(code, status, tmp_path):
    """A signal that kills the server is a status as of a shell."""
    with run(CONTINUE + code, tmp_path) as process:
        assert process.wait() == status


@pytest.mark.parametrize("name", "TERM INT HUP USR1 USR2 TTIN TTOU WINCH QUIT CONT".split())
def test_every_signal_reaches_the_server(name, tmp_path):
    """Also one that comes before the server can wait for it, if it is blocked at the start."""
    block = f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIG{name}]); "
    wait = f"print('ready'); print(signal.sigwait([signal.SIG{name}]).name)"
    with run(block + CONTINUE + wait, tmp_path) as process:
        process.wait_for("ready")
        process.process.send_signal(getattr(signal, f"SIG{name}"))
        assert process.wait() == 0
        assert process.lines == ["ready", f"SIG{name}"]


def test_sockets_that_are_passed_are_the_servers(tmp_path):
    """Podman passes sockets to process 1: their variable names the server afterwards."""
    start = "os.environ.update(LISTEN_PID=str(os.getpid()), WATCHDOG_PID='77'); "
    show = "print(os.environ['LISTEN_PID'] == str(os.getpid()), os.environ['WATCHDOG_PID'])"
    with run(start + CONTINUE + show, tmp_path) as process:
        assert process.wait() == 0
        assert process.lines == ["True 77"]


def instruction(name: str) -> str:
    """Return the argument of the last such instruction of the Containerfile."""
    text = (TOP / "deploy" / "container" / "Containerfile").read_text()
    return re.findall(rf"^{name} (.+)$", text, re.M)[-1]


CONTAINER = f"""
set -e
mount -t tmpfs none /opt
mkdir /opt/netsrv /opt/source /opt/config /opt/python
mount --bind {shlex.quote(str(BIN.parent))} /opt/netsrv
mount --bind {shlex.quote(str(TOP))} /opt/source
mount --bind {shlex.quote(sys.base_prefix)} /opt/python
mount --bind "$PWD" /opt/config
for point in $(awk '{{print $5}}' /proc/self/mountinfo); do
    case $point in
    /proc*|/sys*|/dev*) ;;
    *) mount -o remount,bind,ro "$point" ;;
    esac
done
cd /
if touch /tmp/probe 2> /dev/null; then echo "the file system is not read-only"; exit 99; fi
export PYTHONPATH="/opt/source:$(echo /opt/netsrv/lib/python*/site-packages)"
exec setpriv --reuid "$1" --regid "$2" --clear-groups --no-new-privs --bounding-set=-all \
    env "$3" /opt/python/bin/{Path(sys.executable).resolve().name} "/opt/netsrv/bin/$4" \
    serve --config /opt/config/netsrv.toml
"""
"""What a runtime of containers does for the image, and Kubernetes for the Deployment: a process
number of its own, no capability, and a read-only file system, here with the programs of this
machine."""


@pytest.fixture
def container(tmp_path):
    """Start the command of the Containerfile as process 1, with a file ``netsrv.toml``."""
    needs.root()
    (tmp_path / "netsrv.toml").write_text('[[listener]]\nservice = "echo"\ntcp = "127.0.0.1:0"\n')
    tmp_path.chmod(0o755)
    user, group = instruction("USER").split(":")
    path = instruction("ENV").replace("$PATH", "/usr/bin:/bin")
    [program] = json.loads(instruction("ENTRYPOINT"))
    command = [
        *(needs.tool("unshare"), "--pid", "--fork", "--mount", "--mount-proc", "--kill-child"),
        *("sh", "-c", CONTAINER, "sh", user, group, path, program),
    ]
    tried = subprocess.run([*command[:6], "mount", "-o", "remount,bind,ro", "/"], check=False)
    if tried.returncode:
        pytest.skip("no container here: the root cannot be made read-only")
    with Running(command, tmp_path) as running:
        yield running


@pytest.mark.version_independent
def test_the_command_of_the_image_is_a_good_process_1(container):
    """Read-only, without root: it serves, reloads, ends the zombies of others, and drains."""
    port = container.port("tcp")
    [first] = all_children(container.process.pid)
    [server] = all_children(first)
    uid = os.stat(f"/proc/{server}").st_uid
    assert f"{uid}:{uid}" == instruction("USER")
    with tcp(port) as sock:
        assert exchange(sock, b"hello") == b"hello"
    os.kill(first, signal.SIGHUP)
    container.wait_for("Reloaded: 1 listener as before")
    orphan = [
        needs.tool("nsenter"),
        f"--target={first}",
        "--pid",
        "--mount",
        "sh",
        "-c",
        "sleep 0 &",
    ]
    for _ in range(3):
        subprocess.run(orphan, check=True)
    deadline = time.monotonic() + TIMEOUT
    while all_children(first) != [server]:
        assert time.monotonic() < deadline, "a zombie is left"
    os.kill(first, signal.SIGTERM)
    assert container.wait() == 0
    assert "Traceback" not in container.output
