"""Write the table, the plots and the figures of docs/benchmark.rst from a run.

Usage: python -m bench.page FILE

FILE is what ``bench.compare --json`` has written.  The table replaces the lines between two
comments of the page; docs/benchmark/ gets the plots, and ``run.json``: the figures without
those of the single rounds.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from bench.plot import picture
from bench.processes import TOP
from bench.report import verdict
from bench.rows import START_EMPTY, STOCK, UVLOOP, WEB_STOCK, C

PAGE = TOP / "docs" / "benchmark.rst"
FOLDER = TOP / "docs" / "benchmark"
PLOTTED = ("echo", "accept", "udp")
"""Rows that have a plot in the page."""
BEGIN = ".. The table begins here; python -m bench.page writes it."
END = ".. The table ends here."

OTHERS = ((UVLOOP,), (STOCK, WEB_STOCK, START_EMPTY), (C,))
"""The contenders of the columns after netsrv's; a row has at most one of each."""
HEAD = """\
.. csv-table::
   :header: Work | netsrv | uvloop | Twisted | C | Promised ratio
   :widths: 34 9 9 9 9 30
   :delim: |
"""


def table(result: Mapping[str, Any]) -> str:
    """Return the run's settings and its table, a row per work, as reStructuredText."""
    settings = result["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    measured = (
        f"Measured on {result['began'].partition('T')[0]}: {result['machine']}; {versions}. "
        f"{settings['rounds']} rounds of {settings['seconds']} s, "
        f"{result['took'] / 60:.0f} minutes."
    )
    return "\n".join([fill(measured, 100), "", HEAD, *map(_line, result["rows"]), ""])


def _line(row: Mapping[str, Any]) -> str:
    ours = next(iter(row["contenders"]), None)
    shown = [ours, *(_first(row, names) for names in OTHERS)]
    values = [_value(row, name) for name in shown]
    goals = "; ".join(_goal(goal, ours) for goal in row["goals"] if not goal["chase"])
    return "   " + " | ".join([f"{row['title']}: {row['unit']}", *values, goals])


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row["contenders"]), None)


def _value(row: Mapping[str, Any], name: str | None) -> str:
    if name is None:
        return ""
    return f"{abs(row['contenders'][name]['median']['value']):,.{row['digits']}f}"


def _goal(goal: Mapping[str, Any], ours: str | None) -> str:
    """Return a goal in short: the other contender, the ratio, the bound, and the answer."""
    of = "" if goal["of"] == ours else f"{goal['of']} / "
    other = f"{of}{goal['against'] or ''}{' (CPU)' if goal['figure'] == 'cpu' else ''}"
    if goal["median"] is None:
        return f"{other}: {verdict(goal)}"
    bound = f"{'≥' if goal['more'] else '≤'} {goal['limit']:.2f}"
    answer = ("yes" if goal["reached"] else "no") + ("" if goal["sure"] else "?")
    return f"{other} {goal['median']:.2f} {bound}: {answer}".strip()


def replaced(page: str, figures: str) -> str:
    """Return the page with another table.  Raises ValueError if it has no place for one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n\n{figures}\n{end}{after}"


def without_rounds(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result without the figures of single rounds."""
    rows = [
        {
            **row,
            "contenders": {
                name: {key: value for key, value in one.items() if key != "turns"}
                for name, one in row["contenders"].items()
            },
        }
        for row in result["rows"]
    ]
    return {**result, "rows": rows}


def main() -> None:
    """Write the page, the plots and the figures."""
    parser = argparse.ArgumentParser(prog="bench.page", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="the file of bench.compare --json")
    result = json.loads(parser.parse_args().file.read_text())
    PAGE.write_text(replaced(PAGE.read_text(), table(result)))
    figures = json.dumps(without_rounds(result), ensure_ascii=False)
    (FOLDER / "run.json").write_text(figures + "\n")
    for row in result["rows"]:
        if row["name"] in PLOTTED and row["contenders"]:
            (FOLDER / f"{row['name']}.svg").write_text(picture(row))


if __name__ == "__main__":
    main()
