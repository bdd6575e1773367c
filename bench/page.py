"""Write the table, the plots and the figures of docs/benchmark.rst from a run.

Usage: python -m bench.page FILE...

A FILE is what ``bench.compare --json`` has written; a row that several have is that of the last
one.  The table replaces the lines between two comments of the page; docs/benchmark/ gets the
plots, and ``run.json``: the figures without those of the single rounds.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from bench.plot import picture
from bench.processes import TOP
from bench.report import ratio, verdict
from bench.rows import ROWS, START_EMPTY, STOCK, UVLOOP, WEB_STOCK, C

PAGE = TOP / "docs" / "benchmark.rst"
FOLDER = TOP / "docs" / "benchmark"
PLOTTED = ("echo", "accept", "udp")
"""Rows that have a plot in the page."""
BEGIN = ".. The table begins here; python -m bench.page writes it."
END = ".. The table ends here."

OTHERS = ((UVLOOP,), (STOCK, WEB_STOCK, START_EMPTY), (C,))
"""The contenders of the columns after netsrv's; a row has at most one of each."""
FIGURES_HEAD = """\
.. csv-table::
   :header: Work | netsrv | uvloop | Twisted | C
   :widths: 60 10 10 10 10
   :delim: |
"""
GOALS_HEAD = """\
.. csv-table::
   :header: Work | Beside | Ratio | Promised | Chased
   :widths: 44 20 16 10 10
   :delim: |
"""


def table(result: Mapping[str, Any]) -> str:
    """Return the run's settings, its figures and its goals as reStructuredText."""
    settings = result["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    measured = (
        f"Measured on {result['began'].partition('T')[0]}: {result['machine']}; {versions}. "
        f"{settings['rounds']} rounds of {settings['seconds']} s, "
        f"{result['took'] / 60:.0f} minutes."
    )
    goals = [line for row in result["rows"] for line in _goals(row)]
    figures = [FIGURES_HEAD, *map(_figures, result["rows"]), ""]
    return "\n".join([fill(measured, 100), "", *figures, GOALS_HEAD, *goals, ""])


def _figures(row: Mapping[str, Any]) -> str:
    ours = next(iter(row["contenders"]), None)
    shown = [ours, *(_first(row, names) for names in OTHERS)]
    values = [_value(row, name) for name in shown]
    return "   " + " | ".join([f"{row['title']}: {row['unit']}", *values]).rstrip()


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row["contenders"]), None)


def _value(row: Mapping[str, Any], name: str | None) -> str:
    if name is None:
        return ""
    return f"{abs(row['contenders'][name]['median']['value']):,.{row['digits']}f}"


def _goals(row: Mapping[str, Any]) -> list[str]:
    """Return a line for each ratio that has a goal: whose, its interval, and the answers."""
    ours = next(iter(row["contenders"]), None)
    ratios: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for goal in row["goals"]:
        ratios.setdefault((goal["of"], goal["against"] or "", goal["figure"]), []).append(goal)
    lines = []
    for (of, against, figure), goals in ratios.items():
        pair = " / ".join(name for name in ("" if of == ours else of, against) if name)
        beside = f"{pair or row['unit']}{' (CPU)' if figure == 'cpu' else ''}"
        promised, chased = (
            "; ".join(_answer(goal) for goal in goals if goal["chase"] is chase)
            for chase in (False, True)
        )
        title = "" if lines else row["title"]
        cells = [title, beside, ratio(goals[0]), promised, chased]
        lines.append("   " + " | ".join(cells).rstrip())
    return lines


def _answer(goal: Mapping[str, Any]) -> str:
    """Return a bound, and whether it is kept."""
    if goal["median"] is None:
        return verdict(goal)
    bound = f"{'≥' if goal['more'] else '≤'} {goal['limit']:.2f}"
    return f"{bound}: {'yes' if goal['reached'] else 'no'}{'' if goal['sure'] else '?'}"


def replaced(page: str, figures: str) -> str:
    """Return the page with another table.  Raises ValueError if it has no place for one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n\n{figures}\n{end}{after}"


def joined(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the first result with the rows of all, in the order of `ROWS`."""
    rows = {row["name"]: row for result in results for row in result["rows"]}
    return {**results[0], "rows": [rows[row.name] for row in ROWS if row.name in rows]}


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
    parser.add_argument("files", type=Path, nargs="+", help="files of bench.compare --json")
    result = joined([json.loads(file.read_text()) for file in parser.parse_args().files])
    PAGE.write_text(replaced(PAGE.read_text(), table(result)))
    figures = json.dumps(without_rounds(result), ensure_ascii=False)
    (FOLDER / "run.json").write_text(figures + "\n")
    for row in result["rows"]:
        if row["name"] in PLOTTED and row["contenders"]:
            (FOLDER / f"{row['name']}.svg").write_text(picture(row))


if __name__ == "__main__":
    main()
