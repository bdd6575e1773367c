"""What ``netsrv top`` shows: the state of the server, and a table that fits the terminal."""

import time
from collections.abc import Iterator, Sequence

from attrs import define
from rich.console import Group
from rich.table import Table
from rich.text import Text

from netsrv.cli.top.columns import VIEWS, Column, Item, View
from netsrv.cli.top.figures import count, duration, printable, rate, size, sparkline
from netsrv.cli.top.health import BAD, GOOD, WARNING, Problem, problems, verdict

LEVEL_STYLES = {
    GOOD: "bold black on green",
    WARNING: "bold black on yellow",
    BAD: "bold white on red",
}
PROBLEM_STYLES = {BAD: "red", WARNING: "yellow"}
MAX_PROBLEMS = 5
MAX_WIDTH = 1000
"""From this width of the output on, in characters, columns are as wide as their texts."""

MIN_TEXT_WIDTH = 24
"""Characters of a column without a width of its own."""

HELP = "1-6 or Tab table  letter sort  / filter  arrows scroll  space pause  q quit"


@define
class Choice:
    """What the user has chosen to see."""

    view: int = 0
    sort: Column | None = None
    reverse: bool = False
    filter: str = ""
    is_typing: bool = False
    """True while the user types the filter."""
    offset: int = 0
    """The first row that is shown."""
    page: int = 1
    """How many rows there is room for."""
    is_paused: bool = False


@define
class Shown:
    """What there is to show."""

    answer: Item
    history: Sequence[dict[str, float]] = ()
    lost_since: float | None = None
    """When the server stopped to answer, in Unix time; None if it answers."""
    error: str = ""
    """Why it does not answer."""


def selected(answer: Item, choice: Choice) -> list[Item]:
    """Return the rows that the user has chosen, in their order."""
    view = VIEWS[choice.view]
    word = choice.filter.lower()
    items = [item for item in view.items(answer) if word in _searchable(item)]
    column = choice.sort
    if column is not None and column in view.columns:
        descending = choice.reverse == column.is_text
        known = [item for item in items if column.sort(item) is not None]
        unknown = [item for item in items if column.sort(item) is None]
        items = sorted(known, key=column.sort, reverse=descending) + unknown
    return items


def _searchable(item: Item) -> str:
    words = (value for value in item.values() if isinstance(value, str))
    return " ".join(words).lower()


def render(shown: Shown, choice: Choice, width: int, height: int) -> Group:
    """Return all that is on the screen, *height* lines at most."""
    header = list(header_lines(shown, width))
    if not choice.is_paused and shown.lost_since is not None:
        since = time.strftime("%H:%M:%S", time.localtime(shown.lost_since))
        text = f" No answer since {since}: {printable(shown.error)}. Asking each second. "
        header.insert(0, Text(text, LEVEL_STYLES[BAD]))
    items = selected(shown.answer, choice)
    choice.page = max(1, height - len(header) - 3)
    choice.offset = max(0, min(choice.offset, len(items) - choice.page))
    table = make_table(VIEWS[choice.view], items[choice.offset :][: choice.page], width, choice)
    return Group(*header, tabs(choice, len(items)), table, footer(choice))


def header_lines(shown: Shown, width: int) -> Iterator[Text]:
    """Yield the lines above the table."""
    answer = shown.answer
    lines = problems(answer)
    level, word = verdict(answer, lines)
    about = f"  netsrv {answer['version']} on {answer['host']}, process {answer['pid']}, up "
    first = Text.assemble((f" {word} ", LEVEL_STYLES[level]), printable(about))
    first.append(duration(answer["now"] - answer["start"]))
    yield _line(first)
    yield _line(connections_line(answer, shown.history, width))
    yield _line(Text(rates_line(answer, shown.history)))
    yield _line(Text(process_line(answer), "dim"))
    yield from problem_lines(lines)


def connections_line(answer: Item, history: Sequence[dict[str, float]], width: int) -> Text:
    """Return the connections, and a line of bars for their last minutes."""
    numbers = answer["connections"]
    text = (
        f"Connections {count(numbers['now'])} of {count(numbers['limit'])}"
        f" (most {count(numbers['most'])})  "
    )
    room = max(0, width - len(text) - 1)
    recent = [sample["connections"] for sample in history][-room:] if room else []
    return Text.assemble(text, (sparkline(recent), "cyan"))


def rates_line(answer: Item, history: Sequence[dict[str, float]]) -> str:
    """Return the rates of the last second."""
    last = history[-1] if history else {}
    figures = (
        f"accepted {rate(last.get('accepted'))}/s",
        f"refused {rate(last.get('refused'))}/s",
        f"in {size(last.get('received_bytes'))}/s",
        f"out {size(last.get('sent_bytes'))}/s",
        f"datagrams {rate(last.get('datagrams_received'))}/s",
        f"dropped {rate(last.get('datagrams_dropped'))}/s",
    )
    return "Rates       " + "  ".join(figures)


def process_line(answer: Item) -> str:
    """Return what the process needs."""
    process, loop = answer["process"], answer["loop"]
    cpu = "-" if process["cpu"] is None else f"{100 * process['cpu']:.0f}"
    figures = (
        f"CPU {cpu} %",
        f"memory {size(process['resident_bytes'])}",
        f"descriptors {count(process['open_descriptors'])} of {count(process['max_descriptors'])}",
        f"loop lag {duration(loop['lag'])} (at most {duration(loop['lag_most'])})",
        f"stalls {count(loop['stalls'])}",
    )
    return "Process     " + "  ".join(figures)


def problem_lines(lines: Sequence[Problem]) -> Iterator[Text]:
    """Yield what is wrong, a line each."""
    for level, text in lines[:MAX_PROBLEMS]:
        first, *others = text.splitlines()
        more = f" (and {count(len(others))} more)" if others else ""
        yield _line(Text(f"  {printable(first)}{more}", PROBLEM_STYLES[level]))
    if len(lines) > MAX_PROBLEMS:
        yield _line(Text(f"  and {count(len(lines) - MAX_PROBLEMS)} more", "dim"))


def tabs(choice: Choice, rows: int) -> Text:
    """Return the names of the tables, and which rows are shown."""
    line = Text()
    for number, view in enumerate(VIEWS):
        style = "bold reverse" if number == choice.view else "dim"
        line.append(f" {number + 1} {view.title} ", style)
    last = min(rows, choice.offset + choice.page)
    line.append(f"  {count(min(rows, choice.offset + 1))}-{count(last)} of {count(rows)}", "dim")
    if choice.filter or choice.is_typing:
        cursor = "_" if choice.is_typing else ""
        line.append(f"  filter: {printable(choice.filter)}{cursor}", "bold")
    return _line(line)


def fitting(view: View, width: int) -> list[Column]:
    """Return the columns of a table that fit *width*, without the least important others."""
    columns = list(view.columns)
    while sum((column.width or MIN_TEXT_WIDTH) + 1 for column in columns) > width:
        least = max(columns, key=lambda column: column.priority)
        if least.priority == 0:
            break
        columns.remove(least)
    return columns


def make_table(view: View, items: list[Item], width: int, choice: Choice) -> Table:
    """Return a table; the letter that sorts by a column is underlined in its title."""
    columns = fitting(view, width)
    is_fixed = width < MAX_WIDTH
    table = Table(box=None, padding=(0, 1, 0, 0), expand=is_fixed, header_style="bold")
    for column in columns:
        table.add_column(
            _title(column, choice),
            justify="left" if column.is_text else "right",
            no_wrap=True,
            overflow="ellipsis",
            width=column.width if is_fixed else None,
            ratio=1 if is_fixed and column.width is None else None,
        )
    for item in items:
        cells = [Text(printable(column.text(item)), column.style(item)) for column in columns]
        table.add_row(*cells)
    return table


def _title(column: Column, choice: Choice) -> Text:
    title = Text(column.title)
    if column.key:
        at = column.title.lower().index(column.key)
        title.stylize("underline cyan", at, at + 1)
    if column is choice.sort:
        title.stylize("reverse")
    return title


def footer(choice: Choice) -> Text:
    """Return the line at the bottom."""
    if choice.is_typing:
        return _line(
            Text("Type a word of a name or a state; Enter keeps it, Escape clears it", "dim")
        )
    paused = "PAUSED  " if choice.is_paused else ""
    return _line(Text.assemble((paused, "bold yellow"), (HELP, "dim")))


def _line(text: Text) -> Text:
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


LINE_HEADER = (
    f"{'time':8} {'state':12} {'connections':>11} {'accepted/s':>10} {'refused/s':>9}"
    f" {'in/s':>9} {'out/s':>9} {'datagrams/s':>11} {'dropped/s':>9} {'lag':>8}"
)


def plain_line(shown: Shown) -> str:
    """Return the newest figures of the server as one line, below `LINE_HEADER`."""
    last: dict[str, float] = shown.history[-1] if shown.history else {}
    answer = shown.answer
    clock = time.strftime("%H:%M:%S", time.localtime(answer["now"]))
    state = answer["state"] if answer["ready"] or answer["state"] != "ready" else "not ready"
    return (
        f"{clock:8} {state:12} {count(answer['connections']['now']):>11}"
        f" {rate(last.get('accepted')):>10} {rate(last.get('refused')):>9}"
        f" {size(last.get('received_bytes')):>9} {size(last.get('sent_bytes')):>9}"
        f" {rate(last.get('datagrams_received')):>11} {rate(last.get('datagrams_dropped')):>9}"
        f" {duration(last.get('lag')):>8}"
    )
