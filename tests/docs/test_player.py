"""The player passes true documents, and stops at false ones."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.docs.blocks import Refused, read_blocks
from tests.docs.player import Mismatch, Player, main

pytestmark = pytest.mark.version_independent

SERVER = """\
``server.py``:

.. code-block:: python

   import time

   print("Waiting for peers")
   try:
       print("line two")
       time.sleep(1000)
   except KeyboardInterrupt:
       print("bye")
"""


def play(document: str, folder: Path, name: str = "some.rst") -> None:
    """Play a document from its text."""
    with Player(name, folder) as player:
        player.play(read_blocks(dedent(document)))


def console(*lines: str) -> str:
    """Return a document with one console block."""
    return "\n.. code-block:: console\n\n" + "".join(f"   {line}\n" for line in lines)


@pytest.mark.parametrize(
    "lines",
    [
        ["$ echo one", "one", "$ echo two", "two"],
        ["$ echo one two three", "one ... three"],
        ["$ seq 5", "1", "...", "5"],
        ["$ seq 5", "1", "2", "3", "4", "5", "..."],
        ["$ pwd", "/..."],
        ["$ true"],
    ],
)
def test_a_true_console_block_passes(lines, tmp_path):
    """A command whose lines are those of the document passes."""
    play(console(*lines), tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["$ echo one", "two"], "expected:\ntwo\nbut it shows:\none"),
        (["$ echo one", "on"], "expected"),
        (["$ echo one"], "but it shows:\none"),
        (["$ echo one; echo two", "one"], "but it shows:\none\ntwo"),
        (["$ true", "one"], "expected:\none"),
        (["$ false"], "false ends with status 1"),
        (["one"], "no server"),
        (["$ echo Waiting for peers; seq 2", "Waiting for peers", "1", "3"], "expected"),
    ],
)
def test_a_false_console_block_fails(lines, message, tmp_path):
    """A line too many, too few or different stops the player; so does a failed command."""
    with pytest.raises(Mismatch) as caught:
        play(console(*lines), tmp_path)
    assert message in str(caught.value)
    assert "some.rst, block at line 4" in str(caught.value)


def test_a_server_runs_on_until_its_end_is_shown(tmp_path):
    """A server's lines are compared as they come, across blocks, up to Control-C."""
    started = console("$ python3 server.py", "Waiting for peers")
    play(SERVER + started + console("$ true") + console("line two", "^Cbye"), tmp_path)


def test_a_server_that_goes_on_differently_fails(tmp_path):
    """Later lines of a server are compared as well."""
    started = console("$ python3 server.py", "Waiting for peers")
    with pytest.raises(Mismatch, match="line three"):
        play(SERVER + started + console("line three", "^Cbye"), tmp_path)


def test_python_blocks_share_one_session(tmp_path):
    """A later block uses the definitions of earlier ones, at the prompt or not."""
    play(
        """
        .. code-block:: python

           def double(number):
               return 2 * number

        .. code-block:: pycon

           >>> double(4)
           8
           >>> double(None)
           Traceback (most recent call last):
           ...
           TypeError: ...
        """,
        tmp_path,
    )


def test_a_false_answer_at_the_prompt_fails(tmp_path):
    """A wrong value in the Python session stops the player."""
    with pytest.raises(Mismatch, match="Expected:\n    5\nGot:\n    4"):
        play(".. code-block:: pycon\n\n   >>> 2 + 2\n   5\n", tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        ".. code-block:: ruby\n\n   puts 1\n",
        ".. code-block:: text\n\n   $ rm -rf /\n",
        "It shows::\n\n   something\n",
        ".. code:: python\n\n   1 / 0\n",
        ".. parsed-literal::\n\n   $ true\n",
        ">>> 1 / 0\n",
    ],
)
def test_a_block_that_is_never_run_is_refused(document):
    """A document cannot show code in a form that the player does not know."""
    with pytest.raises(Refused):
        read_blocks(document)


def test_drawings_and_directives_are_let_through():
    """Drawings are not run, and other directives are no blocks."""
    (drawing,) = read_blocks(".. note::\n\n   Text.\n\n.. code-block:: text\n\n   a -> b\n")
    assert (drawing.language, drawing.line, drawing.text) == ("text", 7, "a -> b\n")


def test_a_command_that_is_tested_elsewhere_must_stand_in_its_document(tmp_path):
    """A command in `ELSEWHERE` must exist in its document."""
    with pytest.raises(Mismatch, match=r"README.rst has no such command any more: .*check\.py"):
        play(console("$ true"), tmp_path, "README.rst")


def test_the_command_line_tells_what_is_wrong(tmp_path, capsys, monkeypatch):
    """The player ends with status 1 and prints the place."""
    monkeypatch.setattr("signal.alarm", lambda _seconds: 0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    document = tmp_path / "some.rst"
    document.write_text(console("$ echo one", "two"))
    assert main(document, tmp_path) == 1
    assert "some.rst, block at line 4: expected:\ntwo\n" in capsys.readouterr().out


def test_a_name_that_is_a_paragraph_is_that_of_the_file(tmp_path):
    """The block below is saved, whatever its language."""
    play("``a/quotes``:\n\n.. code-block:: text\n\n   one\n", tmp_path)
    assert (tmp_path / "a" / "quotes").read_text() == "one\n"


@pytest.mark.parametrize("before", ["Save ``x.py``:\n", "one\n``x.py``:\n", "``x.py``:"])
def test_a_name_within_a_text_names_no_file(before):
    """The name has a paragraph of its own."""
    [block] = read_blocks(f"{before}\n.. code-block:: python\n\n   pass\n")
    assert block.file is None


def test_an_option_of_a_block_is_refused():
    """Where Sphinx is not, an unknown option hides the block."""
    with pytest.raises(Refused, match="line 2: a block has no options"):
        read_blocks(".. code-block:: python\n   :caption: x.py\n\n   pass\n")
