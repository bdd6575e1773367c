"""The examples, each copied out of the checkout and run as its user would run it."""

import shutil
from pathlib import Path

import pytest

from tests.checkout import TOP
from tests.process.examples import CHECKS
from tests.process.running import BIN

pytestmark = pytest.mark.version_independent

EXAMPLES = TOP / "examples"


@pytest.fixture
def copied(tmp_path):
    """Copy an example: ``copied("embedded.py")`` returns its folder."""

    def copy(name: str) -> Path:
        shutil.copy(EXAMPLES / name, tmp_path)
        return tmp_path

    return copy


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_works(name, copied):
    """An example runs from any folder, without the checkout."""
    CHECKS[name](BIN / "python", copied(name))


def test_every_example_that_embeds_or_tests_is_run_here():
    """Every example is run here, or with the wheel."""
    with_the_wheel = Path(__file__).with_name("test_packaging.py").read_text()
    found = {each.name for each in EXAMPLES.iterdir() if each.is_file()}
    assert {each for each in found if each not in CHECKS and each not in with_the_wheel} == set()
