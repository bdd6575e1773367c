"""The files of the status page: what can be said of them without a browser."""

import re

import pytest

from netsrv.status.page_files import FOLDER, TYPES, read_page_files

pytestmark = pytest.mark.version_independent

VENDORED = {"uplot.js", "uplot.css", "uplot-license.txt"}
OURS = sorted(path.name for path in FOLDER.iterdir() if path.name not in VENDORED)

TEXTS = [
    *(
        ("text", ground)
        for ground in ("page", "card", "hover", "good-tint", "warn-tint", "bad-tint")
    ),
    *(
        ("muted", ground)
        for ground in ("page", "card", "hover", "good-tint", "warn-tint", "bad-tint")
    ),
    *(("accent", ground) for ground in ("page", "card", "hover")),
    *((tone, ground) for tone in ("warn", "bad") for ground in ("card", "hover")),
    *((tone, f"{tone}-tint") for tone in ("good", "warn", "bad")),
]
"""Pairs of a colour of texts and one behind it."""


def colours(scheme: str) -> dict[str, str]:
    """Return the colours of a scheme, by their names."""
    light, dark, *_ = re.findall(r":root \{(.*?)\}", (FOLDER / "page.css").read_text(), re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#\w+);", light))
    if scheme == "dark":
        found |= re.findall(r"--([\w-]+): (#\w+);", dark)
    return found


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2.2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(scheme):
    """The ratio is 4.5 at least, and 3 for the line of a plot (WCAG 2.2, 1.4.3 and 1.4.11)."""
    known = colours(scheme)
    for minimum, pairs in ((4.5, TEXTS), (3, [("second", "card"), ("accent", "card")])):
        for text, ground in pairs:
            first, second = luminance(known[text]), luminance(known[ground])
            ratio = (max(first, second) + 0.05) / (min(first, second) + 0.05)
            assert ratio >= minimum, (text, ground)


@pytest.mark.parametrize("name", OURS)
def test_no_file_of_the_page_has_another_address(name):
    """Each link is relative, so no request leaves the server, below whatever path it is."""
    text = (FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"\w+://|=\"/|url\(", text) == []


@pytest.mark.parametrize("name", OURS)
def test_nothing_is_inline_and_no_text_becomes_html(name):
    """The content security policy forbids the first; texts of peers forbid the second."""
    text = (FOLDER / name).read_text()
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\bstyle=|\bon\w+=\"|<style"
    )
    assert re.findall(forbidden, text) == []


def test_the_server_has_every_file():
    """Each has a type, the licence of uPlot too; ``/`` is the page."""
    files = read_page_files()
    assert {f"/{path.name}" for path in FOLDER.iterdir()} == files.keys() - {"/"}
    assert files["/"] == files["/index.html"]
    assert b"MIT License" in files["/uplot-license.txt"][1]
    assert all(path.suffix[1:] in TYPES for path in FOLDER.iterdir())


def test_every_module_that_is_imported_is_there():
    """The page and its modules name each other by files that exist."""
    texts = "".join((FOLDER / name).read_text() for name in OURS if name != "icon.svg")
    named = re.findall(r"(?:from|href=|src=) ?\"(?:\./)?([\w.-]+\.(?:js|css|svg))\"", texts)
    assert {FOLDER / name for name in named} <= set(FOLDER.iterdir())
    assert len(set(named)) >= 8
