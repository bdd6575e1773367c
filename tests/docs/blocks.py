"""Reads the code blocks of a document.

A line with nothing but a name, as in "``server.toml``:", is the name of the file that follows
it.  It is no option of the block: an option such as ``:caption:`` is unknown where Sphinx is
not, and hides the block there.  A document with a block that the player cannot play is refused.
"""

import re
from dataclasses import dataclass
from textwrap import dedent

RUN = {"console", "pycon", "python"}
"""The languages of blocks that are run."""

DRAWING = "text"
"""The language of blocks that are not run; a command or a prompt in one is refused."""

_BLOCK = re.compile(r"(\s*)\.\. code-block:: (\S+)")
_OPTION = re.compile(r"\s+:(\w+):( .+)?")
_FILE = re.compile(r"\s*``([^`]+)``:")
_OTHER_BLOCK = re.compile(
    r"\s*\.\. (code|sourcecode|highlight|literalinclude|parsed-literal|prompt|doctest|testcode)::"
    r"|(?!\s*\.\. ).*::$"
    r"|\s*>>> "
)
_RUNNABLE = re.compile(r"\s*(\$|>>>|\^C)(\s|$)", re.MULTILINE)


class Refused(Exception):
    """A document shows something that is never run."""


@dataclass(frozen=True)
class Block:
    """One ``.. code-block::``; *line* is the number of the first line of its *text*."""

    language: str
    line: int
    text: str
    file: str | None = None
    """Where the reader saves the text: the name above the block."""


def read_blocks(document: str) -> list[Block]:
    """Find all blocks of a document.  Raises `Refused`."""
    lines = document.splitlines()
    blocks = []
    number = 0
    while number < len(lines):
        start = _BLOCK.fullmatch(lines[number])
        if start is None and _OTHER_BLOCK.match(lines[number]):
            raise Refused(f"line {number + 1}: write it as a code-block: {lines[number].strip()}")
        number += 1
        if start is not None:
            first, above = number, ["", "", "", *lines][number - 1 : number + 2]
            while number < len(lines) and _inside(lines[number], start[1]):
                number += 1
            blocks.append(_block(start[2], first, lines[first:number], _file_name(above)))
    return blocks


def _inside(line: str, margin: str) -> bool:
    return not line.strip() or line.startswith(f"{margin} ")


def _file_name(above: list[str]) -> str | None:
    """Return the name in the three lines above a block, if it is a paragraph of its own."""
    *before, name_line, blank = above
    name = _FILE.fullmatch(name_line)
    return name[1] if name and not "".join((*before, blank)).strip() else None


def _block(language: str, first: int, lines: list[str], file: str | None) -> Block:
    while lines and not lines[0].strip():
        lines.pop(0)
        first += 1
    if lines and _OPTION.fullmatch(lines[0]):
        raise Refused(f"line {first + 1}: a block has no options; write ``name``: above a file")
    text = dedent("\n".join(lines)).rstrip("\n") + "\n"
    block = Block(language, first + 1, text, file)
    if language not in RUN | {DRAWING} and file is None:
        raise Refused(f"line {block.line}: a block in {language!r} is never run")
    if language == DRAWING and _RUNNABLE.search(text):
        raise Refused(f"line {block.line}: a drawing holds what looks like a command")
    return block
