"""The distributions, the wheel in an empty environment, and the README's first command."""

import re
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import TOP, path_of
from tests.docs.blocks import read_blocks
from tests.process.examples import CHECKS
from tests.process.networks import machines_network
from tests.process.running import BIN, Running

pytestmark = pytest.mark.version_independent


@pytest.fixture(scope="module", autouse=True)
def index() -> Iterator[None]:
    """Reach pip's package index, which is outside a worker's own network."""
    with machines_network():
        yield


def run(*command, cwd: Path) -> str:
    """Run a command, and return its output; fail if its status is not 0."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_environment(folder: Path) -> Path:
    """Create an empty environment, without pip, and return the folder of its programs."""
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=folder)
    return folder / "env" / "bin"


def pip(env: Path, command: str, *options: str) -> None:
    """Run this Python's own pip on an environment, where only what is imported is compiled."""
    python = ["--python", str(env / "python")]
    compiling = ["--no-compile"] if command == "install" else []
    run(sys.executable, "-m", "pip", *python, command, "--quiet", *compiling, *options, cwd=env)


def tracked_files() -> set[str]:
    """Return the names of the files that git tracks, or would track."""
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=TOP)
    return {name for name in names.splitlines() if (TOP / name).is_file()}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Copy the files that git tracks, or would track, into a new folder."""
    folder = tmp_path_factory.mktemp("checkout") / "netsrv"
    for name in tracked_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def distributions(checkout, tmp_path_factory) -> Path:
    """Build the source distribution, and the wheel from it alone."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    run(*command, str(checkout), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions) -> Path:
    """Return the wheel."""
    [built] = distributions.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(distributions, tmp_path_factory) -> Path:
    """Unpack the source distribution."""
    [built] = distributions.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built) as archive:
        archive.extractall(folder, filter="data")
    return folder / built.name.removesuffix(".tar.gz")


UNPACKED = {".gitignore": "it is of use in a clone only"}
"""Files of the checkout that the source distribution leaves out, with their reasons."""

GENERATED = {"PKG-INFO", "netsrv.egg-info"}
"""What setuptools adds to the source distribution."""


def test_the_source_distribution_is_the_checkout(distributions):
    """It has documents, examples, tests, benchmarks and all else that git tracks, no more."""
    [built] = distributions.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {file.name.partition("/")[2] for file in archive if file.isfile()}
    packed = {name for name in names if name.split("/")[0] not in GENERATED}
    assert packed == tracked_files() - set(UNPACKED)


def test_the_tests_of_the_source_distribution_can_be_collected(unpacked):
    """They need no file of the checkout, and test the modules beside them."""
    code = "import netsrv, pytest, sys; print(netsrv.__file__); sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--collect-only", "-q", "-p", "no:cacheprovider"]
    shown = run(*command, cwd=unpacked)
    assert shown.startswith(str(unpacked))
    assert int(re.findall(r"^(\d+) tests collected", shown, re.M)[0]) > 3000


def test_an_index_accepts_the_distributions(distributions):
    """It renders the description, and the wheel has no file too many or too few."""
    names = sorted(str(path) for path in distributions.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *names, cwd=distributions)
    shown = run(str(BIN / "check-wheel-contents"), names[0], cwd=TOP)
    assert shown.endswith(": OK\n")


def test_the_wheel_leaves_twisteds_own_files_alone(wheel):
    """Below twisted/ it has the two plugin modules and no __init__.py."""
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(each for each in names if each.startswith("twisted/")) == [
        "twisted/plugins/netsrv_plugin.py",
        "twisted/plugins/netsrv_services.py",
    ]
    assert not [each for each in names if each.startswith(("tests/", "docs/"))]


def test_the_wheel_has_every_module(wheel, checkout):
    """It has every module of netsrv/, the marker py.typed and the schema of the file."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(each.relative_to(checkout)) for each in (checkout / "netsrv").rglob("*.py")}
    assert modules
    assert modules | {"netsrv/py.typed", "netsrv/config/netsrv.schema.json"} <= names


def test_the_wheel_has_the_manual_page_and_the_completion_of_the_shells(wheel):
    """They are installed where man(1) and the shells look for them."""
    names = zipfile.ZipFile(wheel).namelist()
    shared = [name.partition(".data/data/share/")[2] for name in names if ".data/data/" in name]
    assert sorted(shared) == [
        "bash-completion/completions/netsrv.bash",
        "fish/vendor_completions.d/netsrv.fish",
        "man/man8/netsrv.8",
        "zsh/site-functions/_netsrv",
    ]


def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    """Installed alone, twistd lists netsrv and finds its services, and the examples work.

    Uninstalled, twistd works as before.
    """
    env = make_environment(tmp_path)
    pip(env, "install", str(wheel))
    assert re.search(
        r"^    netsrv +TCP and UDP", run(str(env / "twistd"), "--help", cwd=tmp_path), re.M
    )
    services = run(str(env / "twistd"), "netsrv", "--list-services", cwd=tmp_path)
    assert len(services.splitlines()) == 10
    assert "netsrv 0." in run(str(env / "netsrv"), "--version", cwd=tmp_path)
    for shell in ("bash", "zsh", "fish"):
        assert "netsrv" in run(str(env / "netsrv"), "--completion", shell, cwd=tmp_path)
    for name, check in CHECKS.items():
        shutil.copy(TOP / "examples" / name, tmp_path)
        check(env / "python", tmp_path)
    pip(env, "uninstall", "--yes", "netsrv")
    assert "netsrv" not in run(str(env / "twistd"), "--help", cwd=tmp_path)


@pytest.fixture(scope="module")
def stranger(wheel, checkout, tmp_path_factory) -> Path:
    """Return a folder with copies of the examples, and an environment with pytest alone."""
    folder = tmp_path_factory.mktemp("stranger")
    shutil.copytree(checkout / "examples", folder, dirs_exist_ok=True)
    env = make_environment(folder)
    pip(env, "install", str(wheel), "pytest", "setuptools>=77")
    return folder


@pytest.mark.parametrize(
    ("tests", "passed"),
    [
        (["test_socket_client.py", "test_asyncio_client.py", "test_udp_retry.py"], 7),
        (["greeter/tests"], 5),
    ],
    ids=["clients", "greeter"],
)
def test_the_examples_run_as_a_stranger_runs_them(tests, passed, stranger):
    """With the wheel and pytest installed, the examples' tests pass outside the checkout."""
    env = stranger / "env" / "bin"
    pip(env, "install", "--no-deps", "--no-build-isolation", str(stranger / "greeter"))
    shown = run(str(env / "pytest"), "-q", *tests, cwd=stranger)
    assert re.search(rf"^{passed} passed in ", shown, re.M), shown


@pytest.fixture(scope="module")
def hello(stranger) -> Path:
    """Return the package with a plugin that the document shows."""
    for block in read_blocks(path_of("writing-a-service.rst").read_text()):
        if block.file is not None and block.file.startswith("hello/"):
            path = stranger / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    return stranger / "hello"


@pytest.mark.parametrize(("name", "editable"), [("greeter", ["-e"]), ("hello", [])])
def test_a_package_with_a_service_comes_and_goes(name, editable, stranger, hello):
    """An entry point and a plugin are listed when installed, also with -e.

    Uninstalled, the service is gone and Twisted is whole.
    """
    env = stranger / "env" / "bin"
    listing = [str(env / "twistd"), "netsrv", "--list-services"]
    others = [
        line for line in run(*listing, cwd=stranger).splitlines() if not line.startswith(f"{name} ")
    ]
    pip(env, "install", "--no-deps", "--no-build-isolation", *editable, str(stranger / name))
    assert re.search(f"^{name} +tcp ", run(*listing, cwd=stranger), re.M)
    pip(env, "uninstall", "--yes", f"netsrv-{name}")
    assert run(*listing, cwd=stranger).splitlines() == others


def test_the_readmes_first_command_serves_from_a_fresh_checkout(checkout):
    """It creates its environment and serves; only the port differs here."""
    readme = (checkout / "README.rst").read_text()
    [command] = re.findall(r"^    \$ (python3 -m venv .*)$", readme, re.M)
    assert command.endswith("/twistd -n netsrv --tcp 127.0.0.1:51423 --udp 127.0.0.1:51423")
    installing, serving = command.rsplit(" && ", 1)
    path = f'PATH="{Path(sys.executable).parent}:$PATH"'
    run("/bin/bash", "-c", f"{path}; {installing}", cwd=checkout)
    with Running(["/bin/bash", "-c", f"exec {serving.replace('51423', '0')}"], checkout) as running:
        port = running.port("tcp")
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            assert sock.recv(1) == b""
        running.wait_for(r"Got connection from 127\.0\.0\.1:\d+ on tcp \S+ \(accept\)$")
        running.stop()


def test_the_editable_installation_is_seen_by_twistd(tmp_path):
    """In this environment twistd finds the plugin from any folder."""
    assert "    netsrv  " in run(str(BIN / "twistd"), "--help", cwd=tmp_path)
