"""Everything that the documents show is executed.

Each document has a network of its own where the system allows it, so that its
ports are free and its figures are the kernel's defaults.
"""

import io
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.checkout import DOCUMENTS, TOP, path_of
from tests.docs.blocks import RUN, read_blocks
from tests.docs.player import ELSEWHERE, LONGEST
from tests.process.needs import tool

pytestmark = pytest.mark.version_independent

PLAYED = {
    "README.rst": ["nc", "socat"],
    "behind-a-load-balancer.rst": ["socat", "haproxy", "nginx"],
    "debug-a-network.rst": ["nc", "socat", "ss"],
    "deploy.rst": ["logrotate", "nft", "systemd-analyze"],
    "embedding.rst": ["openssl", "socat"],
    "faults-on-purpose.rst": ["socat"],
    "from-inetd.rst": [],
    "from-toxiproxy.rst": ["curl", "jq", "socat"],
    "haproxy.rst": ["haproxy", "socat"],
    "kubernetes.rst": ["kubectl"],
    "reference.rst": ["nc"],
    "serve-tls.rst": ["openssl", "curl"],
    "secure.rst": ["socat"],
    "systemd.rst": ["socat", "systemd-analyze", "systemd-socket-activate"],
    "test-retries.rst": [],
    "testing-pytest.rst": [],
    "testing.rst": [],
    "tutorial.rst": ["nc"],
    "uvloop-reactor.rst": [],
    "workers.rst": [],
    "watch-a-server.rst": ["curl", "jq", "promtool"],
    "writing-a-fault.rst": ["socat"],
    "writing-a-service.rst": ["nc"],
}
"""The documents with something to run, and the programs that they need."""


def private_network() -> list[str]:
    """Return a command prefix for a network of its own; empty if there is none."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    network = ["unshare", *user, "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        tried = subprocess.run([*network, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return [] if tried.returncode else network


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)
def test_no_block_slips_by(document):
    """Exactly the documents in `PLAYED` have something to run, and nothing unknown."""
    runs = [each for each in read_blocks(document.read_text()) if each.language in RUN]
    assert bool(runs) == (document.name in PLAYED)


@pytest.fixture
def folder(tmp_path):
    """The reader's folder; a daemon that a failed test has left is ended by its pid file."""
    yield tmp_path
    for file in tmp_path.glob("*.pid"):
        with suppress(OSError, ValueError):
            os.kill(int(file.read_text()), signal.SIGTERM)


@pytest.mark.parametrize("name", PLAYED)
def test_a_document_tells_the_truth(name, folder):
    """Every command and snippet runs and prints what the document shows."""
    for program in PLAYED[name]:
        tool(program)
    player = [sys.executable, "-m", "tests.docs.player", str(path_of(name)), str(folder)]
    played = subprocess.run(
        [*private_network(), *player],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST + 10,
        check=False,
    )
    assert played.returncode == 0, played.stdout


def test_a_package_index_shows_the_readme():
    """It has nothing that docutils alone does not know, as ``twine check --strict`` has it."""
    from readme_renderer.rst import render

    warnings = io.StringIO()
    assert render((TOP / "README.rst").read_text(), stream=warnings), warnings.getvalue()


def test_the_readme_names_the_check_that_ci_runs():
    """The README's command for all checks is that of .ci/run."""
    last = (TOP / ".ci" / "run").read_text().splitlines()[-1]
    assert last == "exec python3 .ci/check.py"
    assert f"$ {last.removeprefix('exec ')}\n" in (TOP / "README.rst").read_text()


@pytest.mark.parametrize("each", ELSEWHERE, ids=lambda each: each.reason)
def test_what_is_played_instead_is_a_part_of_the_command(each):
    """A command that is tested elsewhere is replaced only by its own end."""
    assert each.command.endswith(each.instead or "")


def test_what_is_named_like_an_example_is_the_example():
    """A file that a document shows equals the one in ``examples/`` or ``deploy/``."""
    folders = [TOP / "examples", TOP / "deploy"]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    examples = {path: path.read_text() for path in paths}
    shown = {}
    for document in DOCUMENTS:
        for block in read_blocks(document.read_text()):
            path = TOP / "examples" / (block.file or "none")
            path = path if path in examples else TOP / (block.file or "none")
            if path in examples:
                assert block.text == examples[path], f"{document.name}: {block.file}"
                shown[path] = document.name
    names = {path.name for path in shown}
    assert names >= {"test_socket_client.py", "service.py", "netsrv.service", "netsrv.nft"}


def test_the_shortest_service_is_the_tutorials():
    """The how-to begins with the service that the tutorial ends with."""
    first, second = (
        next(
            each.text
            for each in read_blocks(path_of(name).read_text())
            if "hello" in str(each.file)
        )
        for name in ("tutorial.rst", "writing-a-service.rst")
    )
    assert first == second


def test_the_tutorials_service_has_sixteen_lines():
    """The tutorial's service is as short as the README says."""
    blocks = read_blocks(path_of("tutorial.rst").read_text())
    (service,) = [each for each in blocks if (each.file or "").endswith("hello_service.py")]
    assert len([line for line in service.text.splitlines() if line]) == 16
    assert "16 lines" in (TOP / "README.rst").read_text()
