"""``netsrv top`` without a terminal: what it shows of an answer, and what keys do."""

import re
from typing import Any

import pytest
from rich.console import Console

from netsrv.cli.top import figures
from netsrv.cli.top.answers import Answers
from netsrv.cli.top.columns import VIEWS
from netsrv.cli.top.display import Choice, Shown, plain_line, render, selected
from netsrv.cli.top.health import problems, verdict
from netsrv.cli.top.running import press
from netsrv.cli.top.screen import split_keys
from tests.cli.status_answer import PROBLEMS, START, make_answer, stream

WIDTH, HEIGHT = 120, 24


def asked(number: int = 2, **changes: Any) -> Answers:
    """Return what is known after some answers."""
    numbers = iter(range(number))
    answers = Answers(lambda path: make_answer(next(numbers), **changes))
    for _ in range(number):
        answers.ask()
    return answers


def screen(answers: Answers, choice: Choice, width: int = WIDTH, **shown: Any) -> list[str]:
    """Return the lines on a screen."""
    assert answers.newest is not None
    console = Console(width=width, height=HEIGHT, highlight=False, color_system=None)
    content = render(Shown(answers.newest, answers.history, **shown), choice, width, HEIGHT)
    with console.capture() as capture:
        console.print(content)
    return capture.get().splitlines()


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (figures.count, None, "-"),
        (figures.count, 1234567, "1,234,567"),
        (figures.rate, 0, "0"),
        (figures.rate, 9.94, "9.9"),
        (figures.rate, 9.96, "10"),
        (figures.size, 999, "999 B"),
        (figures.size, 999.6, "1.00 kB"),
        (figures.size, 123456789, "123 MB"),
        (figures.duration, 0, "0 s"),
        (figures.duration, 0.0011, "1.1 ms"),
        (figures.duration, 59.94, "59.9 s"),
        (figures.duration, 60, "1 min"),
        (figures.duration, 3661, "1 h 1 min"),
        (figures.duration, 90000, "1 d 1 h"),
        (figures.printable, "a\x1b[2Jb\n", r"a\x1b[2Jb\n"),
        (figures.reasons, {"per_source": 4, "access": 5, "idle": 0}, "access 5, per source 4"),
        (figures.reasons, {"per_source": 4}, "per source"),
    ],
)
def test_figures_are_short(function, value, text):
    """A figure has three digits or so, and its unit."""
    assert function(value) == text


@pytest.mark.parametrize(("changes", "level", "text"), PROBLEMS)
def test_each_problem_has_a_line(changes, level, text):
    """The verdict is that of the worst line."""
    answer = make_answer(**({"listeners": [stream("x")]} | changes))
    lines = problems(answer)
    assert [line for _, line in lines] == [text] * bool(text)
    assert verdict(answer, lines)[0] == level


def test_rates_come_from_two_answers():
    """A rate is a difference by the seconds of the server's own clock."""
    answers = asked(1)
    assert answers.newest["listeners"][0]["rates"] == {}
    answers = asked(2)
    assert answers.newest["listeners"][0]["rates"] == {"served": 10.0, "received": 0, "sent": 0}
    assert round(answers.newest["process"]["cpu"], 6) == 0.1


def test_a_restart_begins_anew():
    """Neither rates nor history mix two servers, and all rows are asked for again."""
    paths = []
    replies = [make_answer(0), make_answer(9, start=START + 5), make_answer(10, start=START + 5)]

    def fetch(path):
        paths.append(path)
        return replies.pop(0)

    answers = Answers(fetch)
    answers.ask()
    answers.ask()
    assert (answers.history, answers.newest["listeners"][0]["rates"]) == ((), {})
    answers.ask()
    assert [path.rpartition("=")[2] for path in paths] == ["0", "2", "0"]
    assert len(answers.history) == 2


def test_the_screen_fits_the_terminal():
    """No line is wider than the terminal, and the rows that fit are shown."""
    many = [stream(f"127.0.0.1:{number} (echo)") for number in range(500)]
    for width in (40, 80, 200):
        lines = screen(asked(listeners=many), Choice(), width)
        assert len(lines) <= HEIGHT
        assert max(map(len, lines)) <= width
    assert any("1-17 of 500" in line for line in lines)


def test_a_letter_sorts_and_once_more_turns_the_order():
    """Numbers begin with the largest, names with A; a missing number is the last."""
    choice = Choice()
    answer = asked().newest

    def ids():
        return [item["id"] for item in selected(answer, choice)]

    assert press("n", choice)
    assert [name[:15] for name in ids()] == [
        "tcp 127.0.0.1:9",
        "tcp 127.0.0.1:7",
        "udp 127.0.0.1:7",
    ]
    press("n", choice)
    assert [name[:15] for name in ids()] == [
        "tcp 127.0.0.1:7",
        "tcp 127.0.0.1:9",
        "udp 127.0.0.1:7",
    ]
    press("l", choice)
    assert ids() == sorted(ids())


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.title)
def test_each_key_of_a_column_is_in_its_title(view):
    """So it can be underlined there; no two columns have one key, nor one that does more."""
    keys = [column.key for column in view.columns if column.key]
    assert len(keys) == len(set(keys))
    assert not set(keys) & set("q/ 123456")
    assert all(column.key in column.title.lower() for column in view.columns)


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_each_table_is_shown(number):
    """A digit chooses a table, and Tab the next one."""
    choice, other = Choice(), Choice(view=(number - 1) % len(VIEWS))
    press(str(number + 1), choice)
    press("tab", other)
    assert choice == other
    text = "\n".join(screen(asked(), choice))
    assert all(column.title in text for column in VIEWS[number].columns if column.priority < 4)
    assert any(word in text for word in ("127.0.0.1:7 (echo)", "server", "4243"))


def test_a_server_without_workers_has_an_empty_table_of_them():
    """Its processes are sorted as the rows of any table."""
    choice = Choice(view=5)
    assert not selected(asked(workers=None).newest, choice)
    assert [item["pid"] for item in selected(asked().newest, choice)] == [4243, 4244]
    press("a", choice)
    assert [item["accepted"] for item in selected(asked().newest, choice)] == [1001, 1000]


def test_a_filter_is_typed():
    """Enter keeps it, Escape clears it, and letters sort no column meanwhile."""
    choice = Choice()
    for key in ("/", "d", "i", "x", "backspace", "enter"):
        press(key, choice)
    assert (choice.filter, choice.is_typing, choice.sort) == ("di", False, None)
    assert [item["id"] for item in selected(asked().newest, choice)] == [
        "tcp 127.0.0.1:9 (discard)"
    ]
    press("escape", choice)
    assert choice.filter == ""


def test_rows_scroll_no_further_than_the_last():
    """A page or a row at a time, and to both ends."""
    answers = asked(listeners=[stream(f"127.0.0.1:{number} (echo)") for number in range(500)])
    choice = Choice()
    screen(answers, choice)
    for key, first in (("down", 2), ("page down", 19), ("up", 18), ("end", 484), ("home", 1)):
        press(key, choice)
        assert any(f" {first}-" in line for line in screen(answers, choice)), key


def test_a_server_that_does_not_answer_is_named():
    """The first line says since when, and why."""
    first = screen(asked(), Choice(), lost_since=START, error="Connection refused")[0]
    assert re.match(r" No answer since ..:..:..: Connection refused\.", first)


def test_peers_write_nothing_but_text():
    """A control character in an answer is shown as an escape, and markup as it is."""
    lines = screen(asked(listeners=[stream("\x1b[2J[bold]x[/]")]), Choice())
    assert r"tcp \x1b[2J[bold]x[/]" in "\n".join(lines)


def test_a_line_has_the_newest_figures():
    """It is what a pipe or a file gets each second."""
    answers = asked()
    line = plain_line(Shown(answers.newest, answers.history))
    assert line.split()[1:] == "ready 3 10 0 512 B 512 B 7 0 0.8 ms".split()


def test_keys_are_split():
    """What a terminal sends at once may be several keys."""
    assert split_keys("a\x1b[A\x1b[6~\x1bOB\t/é\x1b") == [
        *("a", "up", "page down", "down", "tab", "/", "é", "escape")
    ]
