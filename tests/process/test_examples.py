"""The examples, each copied out of the checkout and run as its user would."""

import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.process.running import BIN, PATIENCE, Running

TOP = Path(__file__).parents[2]
EXAMPLES = TOP / "examples"


@pytest.fixture
def copied(tmp_path):
    """Copy an example: ``copied("embedded.py")`` gives its folder."""

    def copy(name: str) -> Path:
        shutil.copy(EXAMPLES / name, tmp_path)
        return tmp_path

    return copy


def say(port: int, line: bytes) -> tuple[bytes, bytes]:
    """Say a line, and give what was said first and what was answered."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        lines = sock.makefile("rb")
        first = lines.readline()
        sock.sendall(line)
        return first, lines.readline()


def ask(port: int, datagram: bytes) -> bytes:
    """Send a datagram, and give the answer."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(datagram, ("127.0.0.1", port))
        return sock.recv(65536)


def check_embedded(python: Path, folder: Path) -> None:
    """Run a program with a server of its own, ask it, and end it."""
    command = [str(python), "-u", "embedded.py", "127.0.0.1:0", "127.0.0.1:0"]
    with Running(command, folder) as running:
        assert say(running.port("tcp"), b"a\r\n") == (b"welcome\r\n", b"1\r\n")
        assert ask(running.port("udp"), b"?") == b"1 lines"
        assert "(CountingFactory)" in running.output
        assert "(Beacon)" in running.output
        assert running.stop() == 0
        assert "0 were aborted" in running.output


def check_tac(python: Path, folder: Path) -> None:
    """Run a Twisted application, ask it for a page, and end it."""
    path = folder / "netsrv.tac"
    path.write_text(path.read_text().replace(":7101", ":0"))
    command = [str(python), str(python.parent / "twistd"), "--pidfile=", "-n", "-y", path.name]
    with Running(command, folder) as running:
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port('tcp')}/") as page:
            assert page.read() == b"hello\n"
        assert ask(running.port("udp"), b"x") == b"x"
        running.stop()


def check_trial(python: Path, folder: Path) -> None:
    """Run a trial test case."""
    command = [str(python), "-m", "twisted.trial", "./test_with_trial.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED (successes=4)" in done.stdout


CHECKS = {
    "embedded.py": check_embedded,
    "netsrv.tac": check_tac,
    "test_with_trial.py": check_trial,
}


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_works(name, copied):
    """Anywhere, by itself."""
    CHECKS[name](BIN / "python", copied(name))


def test_every_example_that_embeds_or_tests_is_run_here():
    """None stands there that nobody has run; those with the fixture are run with the wheel."""
    with_the_wheel = Path(__file__).with_name("test_packaging.py").read_text()
    found = {each.name for each in EXAMPLES.iterdir() if each.is_file()}
    assert {each for each in found if each not in CHECKS and each not in with_the_wheel} == set()
