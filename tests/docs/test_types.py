"""The types that users' programs see, checked by mypy as strictly as ours."""

import shutil
import subprocess
import sys

import pytest

from tests.checkout import TOP

pytestmark = pytest.mark.version_independent

SETTINGS = ["--config-file", str(TOP / "setup.cfg"), "--cache-dir", str(TOP / ".mypy_cache")]


def test_the_examples_types_are_right(tmp_path):
    """mypy passes the examples outside the checkout: netsrv's types are published."""
    for name in ("embedded.py", "test_with_trial.py"):
        shutil.copy(TOP / "examples" / name, tmp_path)
    mypy = [sys.executable, "-m", "mypy", *SETTINGS, "."]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_mistake_in_a_keyword_is_one_of_types(tmp_path):
    """mypy finds a wrong keyword before the program runs."""
    code = 'from netsrv.server import listener\nlistener("tcp", 7, "echo", max_conections=5)\n'
    (tmp_path / "program.py").write_text(code)
    mypy = [sys.executable, "-m", "mypy", *SETTINGS, "program.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'Unexpected keyword argument "max_conections"' in done.stdout
