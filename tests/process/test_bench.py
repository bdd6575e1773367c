"""The measurements in ``bench/`` run and print their results."""

import re
import sys

import pytest

from tests.checkout import TOP
from tests.process.starts import finish

pytestmark = pytest.mark.version_independent

MEASUREMENTS = {
    "bench.fixture --rounds 1 --servers 2": [
        r"  twistd --help +\d+ +\d+ +1\.00",
        r"  netsrv_server\(\"echo\"\) +\d+ +\d+ +\d\.\d\d  goal: at most 1\.5",
        r"2 servers started and stopped .*: 0 processes and 0 descriptors are left",
    ],
    "bench.idle --connections 2 --seconds 0.1 --rounds 1": [
        r"0 connections: \d+\.\d ms of CPU time a second .*, longest turn \d+\.\d\d ms .*",
        r"2 connections: \d+\.\d ms of CPU time a second .*, longest turn \d+\.\d\d ms .*",
        r"-?\d+ bytes for each connection",
    ],
    "bench.proxied --connections 50 --rounds 1": [
        r"  bytes that come before the accept",
        r"    without a header +\d+\.\d µs \(.*\) +1\.00",
        r"    PROXY, version 2 +\d+\.\d µs \(.*\) +\d\.\d\d",
        r"  bytes that come after it",
    ],
    "bench.reload --listeners 3 --reactor uvloop": [
        r"uvloop: 3 listeners, no reload: \d+\.\d ms",
        r"uvloop: 3 listeners, all listeners replaced: \d+\.\d ms",
        r"uvloop: 3 listeners, as many added: \d+\.\d ms",
    ],
    "bench.soak --connections 1 --datagrams 1 --reactor uvloop": [
        r"uvloop: (\d+) connections read to their end, \1 lines in the access log",
        r"uvloop: \d+ datagrams came back, 0 did not",
        r"uvloop: [123] reloads; exit status 0",
        r"uvloop: memory \d+ -> \d+ KiB, descriptors (\d+) -> \1",
    ],
    "bench.start --rounds 1": [
        r"  twistd --help +\d+ +\d+ +1\.00",
        r"  twistd -n netsrv --tcp 192\.0\.2\.1:0 +\d+ +\d+ +\d\.\d\d",
    ],
}


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_a_measurement_runs(measurement):
    """A measurement ends by itself, with its results and no error."""
    done = finish([sys.executable, "-m", *measurement.split()], TOP)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for pattern in MEASUREMENTS[measurement]:
        assert any(re.fullmatch(pattern, line) for line in lines), done.stdout
