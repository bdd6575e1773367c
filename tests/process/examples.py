"""Each example as its user would run it; *python* is that of the environment, *folder* its copy."""

import subprocess
import urllib.request
from pathlib import Path

from tests.clients import exchange, tcp, udp
from tests.process.running import Running


def answer(port: int, datagram: bytes) -> bytes:
    """Send a datagram, and return the answer."""
    with udp(port) as sock:
        return exchange(sock, datagram)


def say(port: int, line: bytes) -> tuple[bytes, bytes]:
    """Send a line, and return the server's first line and its answer."""
    with tcp(port) as sock:
        lines = sock.makefile("rb")
        first = lines.readline()
        sock.sendall(line)
        return first, lines.readline()


def check_embedded(python: Path, folder: Path) -> None:
    """Run a program with a server of its own, ask it, and end it."""
    command = [str(python), "-u", "embedded.py", "127.0.0.1:0", "127.0.0.1:0"]
    with Running(command, folder) as running:
        assert say(running.port("tcp"), b"a\r\n") == (b"welcome\r\n", b"1\r\n")
        assert answer(running.port("udp"), b"?") == b"1 lines"
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
        assert answer(running.port("udp"), b"x") == b"x"
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
"""The checks of the examples that embed a server or test one, by file."""
