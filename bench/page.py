"""The page of a run: tables and plots in docs/benchmark.rst, from what ``--json`` has written.

Usage: python -m bench.page FILE [--profiles FILE]

Nothing is copied by hand: what stands between two comments of the page is replaced.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.plot import draw
from bench.processes import TOP
from bench.profile import calls_each
from bench.report import HEADS, cells, compared, ratio, verdict, wanted

PAGE = TOP / "docs" / "benchmark.rst"
PLOTS = "benchmark"
BEGIN = ".. The figures begin here; python -m bench.page writes them."
END = ".. The figures end here."


def tables(result: Mapping[str, Any], profiles: Sequence[Mapping[str, Any]] = ()) -> str:
    """Give all tables of a run as reStructuredText, and those of `bench.profile`."""
    return "\n".join([*_run(result), *_goals(result), *_rows(result), *_profiles(profiles)])


def _run(result: Mapping[str, Any]) -> list[str]:
    settings = result["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    began = result["began"].partition("T")[0]
    return [
        f"Measured on {began}: {result['machine']}; {versions}. {settings['rounds']} rounds of "
        f"{settings['seconds']} s for each contender, {result['took'] / 60:.0f} minutes in all.",
        "",
    ]


def _goals(result: Mapping[str, Any]) -> list[str]:
    body = [
        [row["title"], compared(goal), ratio(goal), wanted(goal), verdict(goal)]
        for row in result["rows"]
        for goal in row["goals"]
    ]
    heads = ["Work", "Ratio", "Median (95 % interval)", "Bound", ""]
    return [*_headed("What is promised"), *_table(heads, [30, 24, 20, 12, 14], body)]


def _rows(result: Mapping[str, Any]) -> list[str]:
    lines = _headed("All figures")
    for row in result["rows"]:
        lines += [f"**{row['title']}**", ""]
        if row["contenders"]:
            lines += [f".. image:: {PLOTS}/{row['name']}.svg", f"   :alt: {row['title']}", ""]
            body = [[name, *cells(row, name)] for name in row["contenders"]]
            heads = ["", row["unit"], *HEADS]
            kept = [n for n in range(len(heads)) if n < 2 or any(line[n] for line in body)]
            lines += _table(
                [heads[n] for n in kept],
                [[24, 24, 10, 9, 9, 9, 8, 7][n] for n in kept],
                [[line[n] for n in kept] for line in body],
            )
        for name, why in row["missing"].items():
            lines += [f"{name} was not measured: {why}.", ""]
    return lines


def _profiles(profiles: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = _headed("Where the time goes") if profiles else []
    for row in profiles:
        body = []
        for name, one in row["contenders"].items():
            parts = {"kernel": 0.0, "Python": 0.0, **one["libraries"]}
            kernel, python = parts.pop("kernel"), parts.pop("Python")
            rest = ", ".join(f"{each} {cost:.2f}" for each, cost in parts.items() if cost >= 0.05)
            times = [f"{each:.2f}" for each in (one["cost"], kernel, python)]
            body.append([name, *times, rest, calls_each(one)])
        heads = ["", "µs of CPU", "kernel", "Python", "the rest", "system calls each"]
        lines += [f"**{row['title']}**", "", *_table(heads, [18, 9, 8, 8, 20, 37], body)]
    return lines


def _headed(title: str) -> list[str]:
    return [title, "~" * len(title), ""]


def _table(heads: Sequence[str], widths: Sequence[int], body: Iterable[Sequence[str]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}"]
    for number, row in enumerate([heads, *body]):
        lines.append("")
        for place, cell in enumerate(row):
            escaped = cell.replace("*", r"\*") if number else cell
            lines.append(f"   {'* -' if place == 0 else '  -'} {escaped}".rstrip())
    return [*lines, ""]


def replaced(page: str, figures: str) -> str:
    """Give the page with other figures; raises ValueError if it has no place for them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n\n{figures}\n{end}{after}"


def main() -> None:
    """Write the page and the plots."""
    parser = argparse.ArgumentParser(prog="bench.page", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="what bench.compare --json has written")
    parser.add_argument("--profiles", type=Path, metavar="FILE", help="that of bench.profile")
    options = parser.parse_args()
    result = json.loads(options.file.read_text())
    profiles = json.loads(options.profiles.read_text()) if options.profiles else []
    PAGE.write_text(replaced(PAGE.read_text(), tables(result, profiles)))
    draw(result, PAGE.parent / PLOTS)


if __name__ == "__main__":
    main()
