"""Bad input on the command line of each command; tests/cli/test_serve.py has more of it."""

import pytest

from tests.process.starts import SERVE, each_start, finish, only_line

pytestmark = pytest.mark.version_independent

PORT = "a port is a number from 0 to 65535"


@each_start
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--tcp", "65536"], f"--tcp '65536': {PORT}"),
        (["--tcp", "nosuch=0"], "tcp 0.0.0.0:0: there is no service 'nosuch'; there are accept, "),
    ],
)
def test_each_command_is_as_brief(options, problem, start, tmp_path):
    """Every command reports bad input in the same line, without usage or traceback."""
    done = finish([*start.command, *options], tmp_path)
    assert done.returncode == start.misconfigured
    assert only_line(done).startswith(f"netsrv: {problem}")
    assert list(tmp_path.iterdir()) == []


def test_an_argument_that_is_no_text(tmp_path):
    """An argument that is not UTF-8 is reported in one printable line."""
    done = finish([*SERVE.command, "--tcp", b"no\xff\x1b:7"], tmp_path)
    assert done.returncode in (SERVE.misconfigured, SERVE.unavailable)
    assert only_line(done).isprintable()
