"""Runs ``netsrv top``: in a terminal, as lines, as one table, or as JSON."""

import os
import signal
import sys
import time
from collections.abc import Callable
from queue import Empty

from rich.console import Console

from netsrv.cli.top.answers import POLL_INTERVAL, Answers, Poller, as_line
from netsrv.cli.top.columns import LISTENERS, VIEWS, Column, Item
from netsrv.cli.top.display import (
    LINE_HEADER,
    MAX_WIDTH,
    Choice,
    Shown,
    header_lines,
    make_table,
    plain_line,
    render,
)
from netsrv.cli.top.screen import Ended, Screen

HEADER_INTERVAL = 20
"""Lines between two headers, where lines are printed."""


def run(answers: Answers, once: bool, as_json: bool) -> None:
    """Show a server until the user ends it, or *once*.

    Raises OSError or ValueError if the server does not answer at the start.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    answers.ask()
    try:
        if as_json:
            print_each(answers, as_line, once)
        elif once:
            time.sleep(POLL_INTERVAL)  # the rates of listeners need two answers
            print_table(console, answers)
        elif console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty():
            run_screen(console, answers)
        else:
            print_lines(answers)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # such as that of head(1), which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_each(answers: Answers, show: Callable[[Item], str], once: bool) -> None:
    """Print a line for each answer."""
    answer = answers.newest
    while answer is not None:
        print(show(answer), flush=True)
        if once:
            return
        time.sleep(POLL_INTERVAL)
        answer = answers.ask()


def print_table(console: Console, answers: Answers) -> None:
    """Print the state of the server and the table of its listeners."""
    shown = Shown(answers.ask(), answers.history)
    for line in header_lines(shown, console.width):
        console.print(line, soft_wrap=not console.is_terminal)
    if not console.is_terminal:
        console.width = MAX_WIDTH  # no text is cut
    table = make_table(LISTENERS, shown.answer["listeners"], console.width, Choice())
    console.print(table, crop=False)


def print_lines(answers: Answers) -> None:
    """Print a line of figures each second, and a header now and then."""
    number = 0

    def show(answer: Item) -> str:
        nonlocal number
        header = f"{LINE_HEADER}\n" if number % HEADER_INTERVAL == 0 else ""
        number += 1
        return f"{header}{plain_line(Shown(answer, answers.history))}"

    print_each(answers, show, once=False)


def run_screen(console: Console, answers: Answers) -> None:
    """Show the server on the whole terminal until the user ends it."""
    assert answers.newest is not None
    try:
        with Screen(console) as screen:
            poller = Poller(answers, screen.wakeup)
            poller.start()
            try:
                _loop(console, screen, poller, Shown(answers.newest, answers.history))
            finally:
                poller.stop()
    except EOFError:
        pass
    except Ended as end:
        signal.signal(end.number, signal.SIG_DFL)
        os.kill(os.getpid(), end.number)


def _loop(console: Console, screen: Screen, poller: Poller, shown: Shown) -> None:
    choice = Choice()
    while True:
        width, height = console.size
        screen.show(render(shown, choice, width, height))
        for key in screen.wait():
            if not press(key, choice):
                return
        take_results(poller, shown, choice)


def take_results(poller: Poller, shown: Shown, choice: Choice) -> None:
    """Take over what the poller has got; a paused display keeps its figures."""
    while True:
        try:
            result = poller.results.get_nowait()
        except Empty:
            return
        if isinstance(result, (OSError, ValueError)):
            shown.lost_since = shown.lost_since or time.time()
            shown.error = str(getattr(result, "strerror", None) or result)
        elif isinstance(result, Exception):
            raise result
        else:
            shown.lost_since = None
            if not choice.is_paused:
                shown.answer, shown.history = result, poller.answers.history


def press(key: str, choice: Choice) -> bool:
    """Obey a key; return False if it ends the display."""
    if choice.is_typing:
        _type(key, choice)
    elif key == "q":
        return False
    elif key in MOVES:
        choice.offset = max(0, MOVES[key](choice.offset, choice.page))
    elif key == "tab" or key in map(str, range(1, len(VIEWS) + 1)):
        choice.view = (choice.view + 1) % len(VIEWS) if key == "tab" else int(key) - 1
        choice.offset = 0
    elif key == "/":
        choice.is_typing, choice.filter = True, ""
    elif key == "escape":
        choice.filter = ""
    elif key == " ":
        choice.is_paused = not choice.is_paused
    elif column := _column_of(key, choice):
        choice.reverse = choice.sort is column and not choice.reverse
        choice.sort = column
    return True


MOVES: dict[str, Callable[[int, int], int]] = {
    "up": lambda offset, page: offset - 1,
    "down": lambda offset, page: offset + 1,
    "page up": lambda offset, page: offset - page,
    "page down": lambda offset, page: offset + page,
    "home": lambda offset, page: 0,
    "end": lambda offset, page: sys.maxsize,
}


def _column_of(key: str, choice: Choice) -> Column | None:
    columns = VIEWS[choice.view].columns
    return next((column for column in columns if column.key == key), None)


def _type(key: str, choice: Choice) -> None:
    if key in ("enter", "escape"):
        choice.is_typing = False
        choice.filter = choice.filter if key == "enter" else ""
    elif key == "backspace":
        choice.filter = choice.filter[:-1]
    elif len(key) == 1 and key.isprintable():
        choice.filter += key
