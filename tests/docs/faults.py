"""Finds the tests of a fault by their names, and the rows of the table of faults.

A test of fault 12 is named ``test_f12_...``, and one of two faults ``test_f12_f13_...``.
"""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOP = Path(__file__).parents[2]
NUMBERS = re.compile(r"test((?:_f\d+b?)+)_(\w+)")


@dataclass(frozen=True, order=True)
class FaultTest:
    """A test function; *path* is relative to the top of the project."""

    path: str
    name: str
    words: str
    """The name without the numbers, as a sentence."""


@cache
def tests_by_fault() -> dict[str, list[FaultTest]]:
    """Return the tests of each fault, by its number (``F12``), without importing them."""
    tests = defaultdict(list)
    for path in sorted((TOP / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if match := NUMBERS.fullmatch(node.name):
                words = match[2].replace("_", " ")
                test = FaultTest(str(path.relative_to(TOP)), node.name, words)
                for number in match[1].split("_f")[1:]:
                    tests[f"F{number}"].append(test)
    return dict(tests)


def rows() -> dict[str, str]:
    """Return the rows of the tables in ``docs/faults.rst`` as text, by the fault's number."""
    page = (TOP / "docs" / "faults.rst").read_text()
    return dict(re.findall(r"^   (F\d+b?) \| (.+(?:\n    .+)*)", page, re.MULTILINE))
