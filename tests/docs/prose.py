"""Counts the habits that the house style forbids in prose, file by file.

    python -m tests.docs.prose > tests/docs/prose_allowed.txt

A sentence names its actor (the peer, the listener, the caller), in today's English.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.checkout import TOP

HABITS = re.compile(
    r"\b[Ww]ho (is|has|was|shall|may|comes|goes)\b"
    r"|\b([Ss]ome|[Nn]o|[Aa]ny)body\b(?!\"[,)])"  # "nobody", a user's name, is none
    r"|\b([Ss]hall|[Aa]new)\b|\b[Nn]ewcomer"
)
ALLOWED = TOP / "tests/docs/prose_allowed.txt"


def texts() -> Iterator[Path]:
    """Return the files whose prose is ours, this one excepted."""
    yield TOP / "README.rst"
    yield from (TOP / "docs").glob("*.rst")
    for folder in ("netsrv", "tests"):
        yield from (path for path in (TOP / folder).rglob("*.py") if path != Path(__file__))


def counts() -> list[str]:
    """Return a line for each file with such a habit: the file and how often it occurs."""
    found = ((path, len(HABITS.findall(path.read_text()))) for path in texts())
    return sorted(f"{path.relative_to(TOP)} {count}" for path, count in found if count)


if __name__ == "__main__":
    print(*counts(), sep="\n")
