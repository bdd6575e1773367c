"""Reads the code blocks of a document.

A document with a block that the player cannot play is refused.
"""

import re
from dataclasses import dataclass
from textwrap import dedent

RUN = {"console", "pycon", "python"}
"""The languages of blocks that are run."""

DRAWING = "text"
"""The language of blocks that are not run; a command or a prompt in one is refused."""

_BLOCK = re.compile(r"(\s*)\.\. code-block:: (\S+)")
_OPTION = re.compile(r"\s+:(\w+): (.+)")
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
    """Where the reader saves the text: the block's caption."""


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
            first = number
            while number < len(lines) and _inside(lines[number], start[1]):
                number += 1
            blocks.append(_block(start[2], first, lines[first:number]))
    return blocks


def _inside(line: str, margin: str) -> bool:
    return not line.strip() or line.startswith(f"{margin} ")


def _block(language: str, first: int, lines: list[str]) -> Block:
    options: dict[str, str] = {}
    while lines and (not lines[0].strip() or (not options and _OPTION.fullmatch(lines[0]))):
        option = _OPTION.fullmatch(lines.pop(0))
        if option:
            options[option[1]] = option[2]
        first += 1
    text = dedent("\n".join(lines)).rstrip("\n") + "\n"
    block = Block(language, first + 1, text, options.get("caption"))
    if language not in RUN | {DRAWING} and block.file is None:
        raise Refused(f"line {block.line}: a block in {language!r} is never run")
    if language == DRAWING and _RUNNABLE.search(text):
        raise Refused(f"line {block.line}: a drawing holds what looks like a command")
    return block
