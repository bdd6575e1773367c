"""Programs on the uvloop reactor: daemons, signals, processes and threads."""

import os
import select
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from twisted.internet.error import ReactorNotRestartable
from twisted.internet.protocol import ProcessProtocol

from tests.clients import free_port
from tests.process.running import BIN, Running
from tests.timeouts import TIMEOUT as PATIENCE
from tests.uvreactor.conftest import Runner


def fetch(port: int) -> bytes:
    """Get the page that is served."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=PATIENCE) as answer:
        return bytes(answer.read())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a page."""
    (tmp_path / "page").write_text("hello")
    return tmp_path


def test_twistd_serves_with_it(site):
    """Any plugin; and it ends at SIGTERM."""
    listen = "--listen=tcp:0:interface=127.0.0.1"
    command = ["twistd", "-n", "--pidfile=", "--reactor=uvloop", "web", listen, f"--path={site}"]
    with Running(command, site) as twistd:
        twistd.wait_for("reactor class: netsrv.uvreactor.reactor.UvloopReactor")
        port = int(twistd.wait_for(r"Site starting on (\d+)")[1])
        assert fetch(port) == b"hello"
        assert twistd.stop() == -signal.SIGTERM
        assert "Traceback" not in twistd.output


def test_a_daemon_serves(site):
    """twistd installs the reactor before it forks."""
    port = free_port()
    command = [
        *(BIN / "twistd", "--reactor=uvloop", "--logfile=log", "--pidfile=pid"),
        *("web", f"--listen=tcp:{port}:interface=127.0.0.1", f"--path={site}"),
    ]
    subprocess.run(command, cwd=site, check=True, timeout=PATIENCE)
    daemon = int((site / "pid").read_text())
    handle = os.pidfd_open(daemon)
    try:
        # twistd's parent ends once the ports are open.
        assert fetch(port) == b"hello"
        os.kill(daemon, signal.SIGTERM)
        assert select.select([handle], [], [], PATIENCE)[0], "the daemon does not end"
    finally:
        os.close(handle)
    assert "Traceback" not in (site / "log").read_text()


def run(runner: Runner, test) -> None:
    """Run the reactor until *test*, which is called once it runs, has stopped it."""
    late = runner.reactor.callLater(PATIENCE, runner.reactor.stop)
    runner.reactor.callWhenRunning(test)
    runner.reactor.run(installSignalHandlers=True)
    assert late.active(), "the reactor was not stopped"
    late.cancel()


@pytest.fixture
def _handlers():
    """Signal handlers are those of a new process, and then as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    children = signal.getsignal(signal.SIGCHLD)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.signal(signal.SIGCHLD, children)


@pytest.mark.usefixtures("_handlers")
def test_it_runs_once(runner):
    """As Twisted's reactors."""
    run(runner, runner.reactor.stop)
    with pytest.raises(ReactorNotRestartable):
        runner.reactor.run()


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(runner, number):
    """Also while nothing else happens."""
    run(runner, lambda: runner.reactor.callLater(0.01, os.kill, os.getpid(), number))


@pytest.mark.usefixtures("_handlers")
def test_threads_call_and_are_called(runner):
    """In their order."""
    seen = []

    def in_thread():
        for number in range(100):
            runner.reactor.callFromThread(seen.append, number)
        runner.reactor.callFromThread(runner.reactor.stop)

    run(runner, lambda: runner.reactor.callInThread(in_thread))
    assert seen == list(range(100))


@pytest.mark.usefixtures("_handlers")
def test_the_end_of_a_process_is_noticed(runner):
    """With its output and its status; uvloop has SIGCHLD's descriptor."""

    class Child(ProcessProtocol):
        said = b""
        status = None

        def outReceived(self, data):
            self.said += data

        def processEnded(self, reason):
            self.status = reason.value.exitCode
            runner.reactor.stop()

    child = Child()
    program = "import sys; print('said'); sys.exit(7)"
    spawn = runner.reactor.spawnProcess
    run(runner, lambda: spawn(child, sys.executable, [sys.executable, "-c", program], {}))
    assert (child.said, child.status) == (b"said\n", 7)
