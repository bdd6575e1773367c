"""The faults of datagrams beside those of the kernel's netem, where the kernel has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.needs import tool
from tests.timeouts import TIMEOUT

pytestmark = pytest.mark.version_independent

COUNT = 500
SHARE = 0.2

SCRIPT = f"""
import os, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.process.running import Running

def lost(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", port))
    sock.settimeout(0.05)
    count = 0
    for number in range({COUNT}):
        sock.send(b"%d" % number)
        try:
            sock.recv(10)
        except TimeoutError:
            count += 1
    return count

for fault, netem in (("loss:probability={SHARE},seed=1", ""), ("", "loss {SHARE:.0%}")):
    if netem:
        # Only what comes back from the server's port passes through netem.
        os.system("tc qdisc add dev lo root netem " + netem)
    options = ["--fault", fault] if fault else []
    with Running(["netsrv", "serve", "--udp", "echo=127.0.0.1:0", *options], Path(".")) as server:
        print(lost(server.port("udp")), flush=True)
"""


def test_as_many_datagrams_are_lost_as_netem_loses(tmp_path):
    """Within four standard deviations: netem drops requests and answers, the fault answers only."""
    enter = [tool("unshare"), "--net"]
    probe = "ip link set lo up && tc qdisc add dev lo root netem loss 1%"
    tool("tc")
    done = subprocess.run(
        [*enter, "sh", "-c", probe], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        pytest.skip(f"the kernel has no netem here: {done.stderr.strip()}")
    command = 'ip link set lo up && exec "$@"'
    top = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*enter, "sh", "-c", command, "sh", sys.executable, "-c", SCRIPT, top],
        capture_output=True,
        text=True,
        timeout=5 * TIMEOUT,
        check=False,
        cwd=tmp_path,
        env={**os.environ},
    )
    ours, kernels = map(int, done.stdout.split())
    expected = {ours: SHARE, kernels: 1 - (1 - SHARE) ** 2}
    for lost, share in expected.items():
        deviation = (COUNT * share * (1 - share)) ** 0.5
        assert abs(lost - COUNT * share) < 4 * deviation
