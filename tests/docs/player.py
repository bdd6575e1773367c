"""Plays a document: runs its commands and snippets, and compares their output.

    python -m tests.docs.player DOCUMENT FOLDER

FOLDER is the reader's working directory.  The blocks are played in their order:

- A block below a line with nothing but a name, as in "``server.toml``:", is a file: it is
  saved under that name.
- ``python`` without a name, and ``pycon``, the prompt of ``python3``, belong to one Python
  session that lasts as long as the document.
- ``console``: each line with ``$`` is a command for bash, as in a terminal just opened, with
  the programs of this Python's environment first on PATH and below ``.venv/bin``.  The
  lines beneath are all that it prints; ``...`` stands for anything within a line, and alone
  for any number of lines.  The command must end by itself, with status 0.
- A command with a line ``Waiting for`` is a server.  It runs on after
  these lines, until the document ends or shows ``^C``.  A console block that begins without
  a command shows how the last such server goes on.

What cannot be played here is in `ELSEWHERE`, with its reason.
"""

import doctest
import io
import os
import re
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from tests.docs.blocks import DRAWING, Block, Refused, read_blocks
from tests.process.running import BIN, interruptible
from tests.timeouts import TIMEOUT

LONGEST = 3 * int(TIMEOUT)
"""Seconds for a whole document."""


ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",  # in a terminal Python shows each line at once
    # Without plugins that a reader need not have; that of hypothesis takes a second to import.
    "PYTEST_ADDOPTS": "-p no:asyncio -p no:twisted -p no:hypothesispytest",
}


class Mismatch(Exception):
    """A document differs from what happens."""


@dataclass(frozen=True)
class Elsewhere:
    """A command that is tested elsewhere, and what is played in its place, if anything."""

    document: str
    command: str
    reason: str
    instead: str | None = None
    effect: Callable[[Path], dict[str, str]] | None = None
    """Does in the reader's folder what matters of it; returns further environment variables."""


def editable(package: str, folder: Path) -> dict[str, str]:
    """Make a package importable, with its entry points, as ``pip install -e`` does."""
    project = tomllib.loads((folder / package / "pyproject.toml").read_text())["project"]
    installed = folder / package / f"{project['name']}-{project['version']}.dist-info"
    installed.mkdir()
    name = f"Name: {project['name']}\nVersion: {project['version']}\n"
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\n{name}")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    return {"PYTHONPATH": str(folder / package)}


ELSEWHERE = (
    Elsewhere(
        "writing-a-service.rst",
        "pip install -e ./greeter",
        "it needs a package index; tests/process/test_packaging.py installs it for editing",
        effect=partial(editable, "greeter"),
    ),
    Elsewhere(
        "writing-a-fault.rst",
        "pip install -e ./typos",
        "it needs a package index; a test installs the greeter, which is alike",
        effect=partial(editable, "typos"),
    ),
    Elsewhere(
        "writing-a-service.rst",
        "pip install ./greeter",
        "it needs a package index; tests/process/test_packaging.py installs it",
    ),
    Elsewhere(
        "README.rst",
        "python3 -m venv .venv && .venv/bin/pip install . && "
        ".venv/bin/twistd -n netsrv --tcp 127.0.0.1:51423 --udp 127.0.0.1:51423",
        "it needs a package index; tests/process/test_packaging.py installs and serves",
        instead=".venv/bin/twistd -n netsrv --tcp 127.0.0.1:51423 --udp 127.0.0.1:51423",
    ),
    Elsewhere(
        "README.rst",
        "python3 .ci/check.py",
        "it runs these tests; test_documents.py compares it with what CI runs",
    ),
    *(
        Elsewhere("deploy.rst", command, "it changes the system; test_deploy.py checks the files")
        for command in (
            "sudo apt install git python3-venv socat nftables logrotate",
            "sudo python3 -m venv /opt/netsrv",
            "sudo /opt/netsrv/bin/pip install .",
            "sudo adduser --system --group --no-create-home netsrv",
            "sudo install -m 644 netsrv.toml /etc/netsrv.toml",
            "sudo install -m 644 deploy/systemd/netsrv.service /etc/systemd/system/",
            "sudo install -m 644 -D -t /etc/systemd/system/netsrv.service.d "
            "deploy/systemd/netsrv.service.d/low-ports.conf",
            "sudo systemd-analyze verify /etc/systemd/system/netsrv.service",
            "sudo systemctl daemon-reload",
            "sudo systemctl enable --now netsrv",
            "socat -t 1 - TCP:127.0.0.1:13 < /dev/null",
            "journalctl -u netsrv -n 20",
            "sudo systemctl reload netsrv",
            "sudo install -m 644 deploy/logrotate/netsrv /etc/logrotate.d/netsrv",
            "sudo install -m 644 -D deploy/nftables/netsrv.nft /etc/nftables.d/netsrv.nft",
            "sudo nft --file /etc/nftables.d/netsrv.nft",
            "sudo /opt/netsrv/bin/twistd --uid netsrv --gid netsrv --pidfile /run/netsrv.pid "
            "--syslog netsrv --config /etc/netsrv.toml",
        )
    ),
    *(
        Elsewhere("deploy.rst", f"sudo {folder}{command}", "it needs no sudo", instead=command)
        for folder, command in (
            ("/opt/netsrv/bin/", "netsrv serve --config netsrv.toml --check"),
            ("", "nft --check --file deploy/nftables/netsrv.nft"),
        )
    ),
    *(
        Elsewhere(
            "kubernetes.rst",
            command,
            "it needs a registry or a cluster; test_first_process.py runs the image's command",
        )
        for command in (
            "podman build -t registry.example.org/netsrv:0.1.0 -f deploy/container/Containerfile .",
            "podman run --rm --read-only --cap-drop all -p 7007:7007 "
            "registry.example.org/netsrv:0.1.0 serve --tcp echo=7007",
            "kubectl apply -k deploy/kubernetes",
            "kubectl rollout status deployment/echo",
        )
    ),
    *(
        Elsewhere(
            "debug-a-network.rst",
            command,
            "it runs until Control-C; test_deploy.py compiles the filter",
        )
        for command in (
            "sudo tcpdump -n -i any "
            "'tcp port 7402 and tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0'",
            "sudo tcpdump -n -i any 'udp port 7402 or icmp or icmp6'",
        )
    ),
)


class Terminal:
    """A command in a terminal of its own, and its output."""

    def __init__(self, command: str, folder: Path, environ: dict[str, str]) -> None:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        self._shown = ""
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env={**os.environ, "PATH": path, **ENVIRONMENT, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=interruptible,  # noqa: PLW1509 - it only sets signals
        )

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(ProcessLookupError):  # it may have ended, with all that it started
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def shows(self, expected: list[str]) -> None:
        """Wait until these lines are the next ones.  Raises `Mismatch`."""
        while not (match := pattern(expected).match(self._shown)):
            enough = "..." not in expected and self._shown.count("\n") >= len(expected)
            if enough or not self._read(expected):
                raise _mismatch(expected, self._shown)
        self._shown = self._shown[match.end() :]

    def ends(self, expected: list[str]) -> int:
        """Wait for the end, after exactly these lines.  Returns the exit status."""
        while self._read(expected):
            pass
        if not pattern(expected).fullmatch(self._shown):
            raise _mismatch(expected, self._shown)
        return self._process.wait(TIMEOUT)

    def interrupt(self) -> None:
        """Press Control-C."""
        os.killpg(self._process.pid, signal.SIGINT)

    def _read(self, expected: list[str]) -> bool:
        """Read more; return False at the end of the output.  Raises `Mismatch` on a time-out."""
        output = self._process.stdout
        if not select.select([output], [], [], TIMEOUT)[0]:
            raise Mismatch(
                f"nothing more comes, and it has not ended; {_mismatch(expected, self._shown)}"
            )
        data = os.read(output.fileno(), 65536).decode(errors="backslashreplace")
        self._shown = (self._shown + data).replace("\r\n", "\n")
        if not data and self._shown and not self._shown.endswith("\n"):
            self._shown += "\n"
        return bool(data)


def pattern(expected: list[str]) -> re.Pattern[str]:
    """Return the expression that matches lines of a document."""
    parts = []
    for line in expected:
        if line == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*?".join(map(re.escape, line.split("..."))) + r"\n")
    return re.compile("".join(parts))


def _mismatch(expected: list[str], shown: str) -> Mismatch:
    return Mismatch("expected:\n{}\nbut it shows:\n{}".format("\n".join(expected), shown))


class Player:
    """Plays blocks in *folder*; *name* is the document's.  Use it in a ``with`` statement."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._elsewhere = {each.command: each for each in ELSEWHERE if each.document == name}
        self._session: dict[str, Any] = {"__name__": "__main__"}
        self._terminals = ExitStack()
        self._environ: dict[str, str] = {}
        self._servers: list[Terminal] = []

    def __enter__(self) -> "Player":
        (self._folder / ".venv").mkdir()
        (self._folder / ".venv" / "bin").symlink_to(BIN)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._terminals.close()

    def play(self, blocks: list[Block]) -> None:
        """Play all blocks.  Raises `Mismatch`."""
        unseen = set(self._elsewhere)
        for block in blocks:
            unseen -= {command for command, _ in _steps(block)}
            try:
                self._play(block)
            except Mismatch as error:
                raise Mismatch(f"{self._name}, block at line {block.line}: {error}") from None
        if unseen:
            raise Mismatch(f"{self._name} has no such command any more: {', '.join(unseen)}")

    def _play(self, block: Block) -> None:
        if block.file is not None:
            path = self._folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, self._name, "exec"), self._session)
        elif block.language == "pycon":
            self._prompt(block)
        elif block.language != DRAWING:
            for command, expected in _steps(block):
                self._console(command, expected)

    def _prompt(self, block: Block) -> None:
        """Enter the block in the Python session."""
        test = doctest.DocTestParser().get_doctest(
            block.text, {}, self._name, self._name, block.line - 1
        )
        test.globs = self._session
        report = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.FAIL_FAST)
        if runner.run(test, out=report.write, clear_globs=False).failed:
            raise Mismatch(report.getvalue())

    def _console(self, command: str | None, expected: list[str]) -> None:
        if command is None:
            if not self._servers:
                raise Mismatch("output, but no server that it could be from")
            self._follow(self._servers[-1], expected)
            return
        elsewhere = self._elsewhere.get(command)
        if elsewhere is not None:
            if elsewhere.effect is not None:
                self._environ |= elsewhere.effect(self._folder)
            if elsewhere.instead is None:
                return
            command = elsewhere.instead
        terminal = self._terminals.enter_context(Terminal(command, self._folder, self._environ))
        if any("Waiting for" in line for line in expected):
            self._servers.append(terminal)
            self._follow(terminal, expected)
        elif status := terminal.ends(expected):
            raise Mismatch(f"{command} ends with status {status}")

    def _follow(self, server: Terminal, expected: list[str]) -> None:
        """See how a server goes on, and perhaps how it ends."""
        before = list(takewhile(lambda line: not line.startswith("^C"), expected))
        server.shows(before)
        if before != expected:
            server.interrupt()
            last, *others = expected[len(before) :]
            server.ends([last.removeprefix("^C"), *others])
            self._servers.remove(server)


def _steps(block: Block) -> list[tuple[str | None, list[str]]]:
    """Split a console block into commands, each with its output."""
    steps: list[tuple[str | None, list[str]]] = []
    if block.language != "console":
        return steps
    for line in block.text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        elif steps:
            steps[-1][1].append(line)
        else:
            steps.append((None, [line]))
    return steps


def main(document: Path, folder: Path) -> int:
    """Play a document, and return the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # otherwise our children ignore ^C
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LONGEST)
    os.chdir(folder)
    try:
        blocks = read_blocks(document.read_text())
        with Player(document.name, folder) as player:
            player.play(blocks)
    except (Mismatch, Refused) as error:
        print(error)
        return 1
    return 0


def _too_long(*_: object) -> None:
    raise Mismatch(f"the document is not at its end after {LONGEST} s")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
