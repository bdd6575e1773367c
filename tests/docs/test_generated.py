"""The files made from the tables of options: the completion of the shells, and the manual page."""

import subprocess
from pathlib import Path

import pytest

from docs import man_page
from netsrv.cli.completion import SCRIPTS, completion_script
from netsrv.cli.options import SERVE_OPTIONS
from netsrv.cli.printing import ExitStatus
from tests.process import needs

pytestmark = pytest.mark.version_independent


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_completion_is_up_to_date(shell):
    """It is what ``python -m docs.completion`` writes."""
    pytest.importorskip("shtab")
    from docs import completion

    assert completion_script(shell) + "\n" == completion.make_script(shell)


def test_the_manual_page_is_up_to_date():
    """It is what ``python -m docs.man_page`` writes, and has every option and every status."""
    page = man_page.PATH.read_text()
    assert page == man_page.make_page()
    plain = page.replace("\\-", "-")
    assert all(f"\n.B {option.spellings}\n" in plain for option in SERVE_OPTIONS)
    assert list(man_page.STATUSES) == list(ExitStatus)


def test_the_manual_page_is_clean():
    """mandoc has nothing to say about its form."""
    command = [needs.tool("mandoc"), "-Tlint", str(man_page.PATH)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_files_are_in_the_package():
    """They are beside the module that prints them."""
    assert {Path(str(path)).parent for path in SCRIPTS.values()} == {man_page.PATH.parent}
