"""The files that are made by a program: the completion, the manual page, a picture."""

import re
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


def test_the_picture_of_a_terminal_has_its_colours_and_needs_no_network():
    """A browser shows it as a picture, which may load nothing."""
    pytest.importorskip("rich")
    from docs import terminal

    picture = terminal.draw("$ netsrv serve\n12:00:00  \x1b[33mwarn\x1b[0m: full\n")
    assert re.search(r'class="netsrv-r2"[^>]*>warn</text>', picture)
    assert "@font-face" not in picture
    shown = "".join(re.findall(r"<text [^>]*>([^<]*)</text>", terminal.PATH.read_text()))
    assert shown.replace("&#160;", " ").startswith(f"netsrv serve$ {terminal.COMMAND}")
