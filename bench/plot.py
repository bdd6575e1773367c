"""Draw a row of a run as SVG, without a library: a bar with its interval per contender."""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, STEP, BAR = 760, 220, 130, 44, 26, 16
OURS, OTHERS, LIMIT = "#1f6f8b", "#b8c4cc", "#8a9a5b"


def picture(row: Mapping[str, Any]) -> str:
    """Return the plot of a row: a bar for each contender, whose length is its median."""
    contenders = row["contenders"]
    scale = (WIDTH - LEFT - RIGHT) / max(one["interval"][1] for one in contenders.values())
    height = TOP + STEP * len(contenders) + 10
    better = "more" if row["more"] else "less"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _words(10, 16, row["title"], weight="bold"),
        _words(10, 33, f"{row['unit']}: {better} is better", fill="#555"),
    ]
    for number, (name, one) in enumerate(contenders.items()):
        parts += _bar(TOP + STEP * number, name, one, scale, row["digits"])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(top: int, name: str, one: Mapping[str, Any], scale: float, digits: int) -> list[str]:
    """Return one bar, its name, its median, and the interval as a line across its end."""
    middle, low, high = (max(0.0, number) for number in (one["median"]["value"], *one["interval"]))
    colour = OURS if name.startswith("netsrv") or "uvloop web" in name else OTHERS
    colour = LIMIT if name.startswith("C") else colour
    y, base = top + BAR / 2, top + BAR - 4
    return [
        _words(LEFT - 8, base, name, anchor="end"),
        f'<rect x="{LEFT}" y="{top}" width="{middle * scale:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<path d="M{LEFT + low * scale:.1f} {y}H{LEFT + high * scale:.1f}" stroke="black"/>',
        _words(LEFT + high * scale + 6, base, f"{middle:,.{digits}f}"),
    ]


def _words(x: float, y: float, words: str, anchor: str = "start", **style: str) -> str:
    named = {"weight": "font-weight"}
    extra = "".join(f' {named.get(key, key)}="{value}"' for key, value in style.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'
