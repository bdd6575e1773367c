"""The status page in Chromium: what an operator sees, and what the browser is not asked to do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from netsrv.cli.top import figures
from tests.cli.status_answer import PROBLEMS, make_answer, stream
from tests.clients import tcp, unix
from tests.process.browser import Browser
from tests.process.running import Running
from tests.process.starts import SERVE

pytestmark = pytest.mark.version_independent

MANY = 500
ROWS = "document.querySelectorAll('#listener-table tbody tr').length"
ANSWERS = (
    "performance.getEntriesByType('resource').filter(e => e.name.includes('status.json')).length"
)
VERDICT = "document.getElementById('verdict').textContent"
WATCH = """
window.changes = 0;
new MutationObserver((records) => {
  window.changes += records.filter((record) => record.target.closest("tr") === null).length;
}).observe(document.querySelector("#listener-table tbody"), { childList: true, subtree: true });
"""
BYTES = "document.querySelectorAll('#plots figure')[2]"


def cell(row: int, column: int) -> str:
    """Return the expression for the text of a cell of the listeners."""
    return (
        f"document.querySelector('#listener-table tbody').rows[{row}].cells[{column}].textContent"
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the tests of this module."""
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the servers."""
    return tmp_path_factory.mktemp("status")


def start(folder: Path, *options: str, status: str = "127.0.0.1:0") -> Running:
    """Start a server with a status page."""
    return Running([*SERVE.command, *options, "--status", status], folder)


def url_of(server: Running) -> str:
    """Return the address of a server's page."""
    return server.wait_for(r"Serving status on (\S+)")[1]


def open_page(browser: Browser, url: str) -> None:
    """Open a page, and wait until it shows the listeners."""
    browser.events.clear()
    browser.open(url)
    browser.wait_for(f"location.href === {json.dumps(url)} && {ROWS} > 0")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    """A server with a listener of which the name is HTML."""
    options = ("--tcp", "echo=127.0.0.1:0", "--udp", "echo=127.0.0.1:0", "--unix", "echo=<b id=x>")
    with start(folder, *options) as running:
        yield running


def test_the_page_loads_without_an_error_and_asks_no_other_server(browser, server):
    """The content security policy blocks nothing, and each request goes to the server itself."""
    url = url_of(server)
    open_page(browser, url)
    asked = browser.evaluate(ANSWERS)
    browser.wait_for(ANSWERS, lambda answers: answers > asked + 1)
    assert browser.evaluate(VERDICT) == "Healthy"
    assert browser.evaluate("document.querySelectorAll('.u-wrap canvas').length") == 6
    sent = [event for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    requests = [event["params"]["request"]["url"] for event in sent]
    assert len(requests) > 8
    assert [request for request in requests if not request.startswith(url)] == []
    complaints = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [event for event in browser.events if event["method"] in complaints] == []


def test_a_new_connection_is_seen_in_the_second_answer_at_the_latest(browser, server):
    """Answers are a second apart, so the page shows a connection after 2 seconds at most."""
    open_page(browser, url_of(server))
    assert browser.evaluate(cell(0, 3)) == "0"
    with tcp(server.port("tcp")):
        asked = browser.evaluate(ANSWERS)
        browser.wait_for(cell(0, 3), "1".__eq__)
        assert browser.evaluate(ANSWERS) <= asked + 2
    browser.wait_for(cell(0, 3), "0".__eq__)
    assert "127.0.0.1:" in browser.evaluate(
        "document.querySelector('#ending-table tbody').innerText"
    )


def test_the_plots_move(browser, server):
    """Bytes change the drawing and the figures above it."""
    open_page(browser, url_of(server))
    picture = f"{BYTES}.querySelector('canvas').toDataURL()"
    before = browser.evaluate(picture)
    with tcp(server.port("tcp")) as client:
        client.sendall(b"x" * 5000)
        browser.wait_for(f"{BYTES}.querySelector('b').textContent", lambda text: "kB/s" in text)
    assert browser.evaluate(picture) != before


def test_the_page_and_netsrv_top_say_the_same(browser, server):
    """Both have the same words for each problem, and show figures alike."""
    open_page(browser, url_of(server))
    for changes, _, text in PROBLEMS:
        answer = make_answer(**({"listeners": [stream("x")]} | changes))
        lines = browser.evaluate(
            f"import('/health.js').then((health) => health.problems({json.dumps(answer)}))"
        )
        assert [line for _, line in lines] == [text] * bool(text)
    values = [0, 0.0011, 0.26, 1, 9.94, 59.94, 60, 999, 3661, 90000, 123456789]
    for name in ("rate", "size", "duration"):
        shown = browser.evaluate(
            f"import('/figures.js').then((figures) => {values}.map(figures.{name}))"
        )
        assert shown == [getattr(figures, name)(value) for value in values]


def test_workers_have_a_table_where_there_are_some(browser, folder, server):
    """One process has none; each worker is a row."""
    section = "document.getElementById('worker-section')"
    open_page(browser, url_of(server))
    assert browser.evaluate(f"{section}.hidden")
    with start(folder, "--tcp", "echo=127.0.0.1:0", "--workers", "2") as workers:
        url = url_of(workers)
        with urlopen(f"{url}status.json") as answer:
            rows = json.load(answer)["workers"]["processes"]
        open_page(browser, url)
        assert not browser.evaluate(f"{section}.hidden")
        shown = browser.evaluate(f"{section}.innerText")
        assert [str(row["pid"]) in shown for row in rows] == [True, True]
        assert workers.stop() == 0


def test_texts_of_others_are_no_html(browser, server):
    """A name with a tag in it is shown as it is."""
    open_page(browser, url_of(server))
    assert browser.evaluate(cell(2, 0)).endswith("<b id=x>")
    assert browser.evaluate("document.getElementById('x')") is None


def test_the_details_of_a_listener_open_by_keyboard(browser, server):
    """Enter opens the options asked for and in effect; Escape closes them, and focus returns."""
    open_page(browser, url_of(server))
    browser.evaluate("document.querySelector('#listener-table tbody button').focus()")
    press(browser, "Enter", "\r")
    browser.wait_for("document.getElementById('details').open")
    browser.wait_for(
        "document.getElementById('option-table').innerText",
        lambda text: re.search(r"backlog\s+1024\s+1024", text),
    )
    press(browser, "Escape")
    browser.wait_for("!document.getElementById('details').open")
    assert browser.evaluate("document.activeElement.textContent").startswith("tcp 127.0.0.1:")


def press(browser: Browser, key: str, text: str = "") -> None:
    """Press a key."""
    code = {"Enter": 13, "Escape": 27}[key]
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=code
        )


def test_the_page_fits_a_phone(browser, server):
    """At a width of 360 pixels nothing leaves the page, and what does not fit a table scrolls."""
    browser.resize(360, 740)
    open_page(browser, url_of(server))
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    browser.resize(1280, 900)


def test_a_screen_reader_finds_its_way(browser, server):
    """Tables have captions and headers with a scope, buttons and plots have names."""
    open_page(browser, url_of(server))
    for missing in (
        "table:not(:has(caption))",
        "th:not([scope])",
        "[role=region]:not([aria-labelledby])",
        "[role=img]:not([aria-label])",
        "section:not([aria-label], [aria-labelledby])",
        "button:empty",
    ):
        assert browser.evaluate(f"document.querySelectorAll({json.dumps(missing)}).length") == 0
    for single in ("h1", "main", "header", "footer", "[role=status]"):
        assert browser.evaluate(f"document.querySelectorAll({json.dumps(single)}).length") == 1


def test_the_page_survives_a_restart_of_the_server(browser, folder):
    """It says that the server does not answer, and goes on with the next one at the address."""
    with start(folder, "--tcp", "127.0.0.1:0") as first:
        url = url_of(first)
        open_page(browser, url)
        browser.evaluate("window.isSame = true")
        assert first.stop() == 0
        browser.wait_for(VERDICT, "No answer from the server".__eq__)
        assert browser.evaluate("document.body.className") == "lost"
    status = url.removeprefix("http://").rstrip("/")
    with start(
        folder, "--tcp", "127.0.0.1:0", "--tcp", "echo=127.0.0.1:0", status=status
    ) as second:
        assert url_of(second) == url
        browser.wait_for(VERDICT, "Healthy".__eq__)
        browser.wait_for(ROWS, (2).__eq__)
        about = browser.evaluate("document.getElementById('about').textContent")
        assert f"process {second.process.pid}," in about
    assert browser.evaluate("window.isSame") is True


def test_many_listeners_are_filtered_and_sorted_and_no_row_is_made_twice(browser, folder):
    """With 500 listeners an answer changes texts, and adds and removes no element."""
    listeners = "".join(
        f'[[listener]]\nservice = "echo"\nunix = "{number}.sock"\n' for number in range(MANY)
    )
    (folder / "many.toml").write_text(listeners)
    with start(folder, "--config", "many.toml") as running:
        open_page(browser, url_of(running))
        assert browser.evaluate(ROWS) == MANY
        browser.evaluate(WATCH)
        with unix(folder / "321.sock"):
            browser.wait_for(cell(321, 3), "1".__eq__)
            assert browser.evaluate("window.changes") == 0
            browser.evaluate("document.querySelectorAll('#listener-table thead button')[3].click()")
            assert "321.sock" in browser.evaluate(cell(0, 0))
        browser.evaluate("filter.value = '/77.sock'; filter.dispatchEvent(new Event('input'))")
        assert browser.evaluate(ROWS) == 1
        assert browser.evaluate("shown.textContent") == "1 of 500 listeners"
