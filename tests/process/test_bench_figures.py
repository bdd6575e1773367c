"""Intervals, verdicts and the page that ``bench/`` makes of its figures."""

import json
import math
import random
import sys
from statistics import median

import pytest

from bench.measure import cpu_seconds, interval
from bench.page import BEGIN, END, FOLDER, PAGE, PLOTTED, joined, replaced, table, without_rounds
from bench.plot import picture
from bench.report import judged, load_was_full, summary, text, verdict
from bench.rows import OURS, ROWS, UVLOOP, Goal
from tests.process.running import Running

pytestmark = pytest.mark.version_independent

ECHO = ROWS[0]


@pytest.mark.parametrize(
    ("count", "place", "sure"), [(3, 1, 0.75), (6, 1, 0.96875), (15, 4, 0.9648), (25, 8, 0.9567)]
)
def test_the_interval_is_the_one_of_the_tables(count, place, sure):
    """The ranks and the confidence follow from the binomial distribution."""
    numbers = list(range(1, count + 1))
    random.Random(count).shuffle(numbers)
    low, high, confidence = interval(numbers)
    assert (low, high) == (place, count + 1 - place)
    assert confidence == pytest.approx(sure, abs=1e-4)


def test_the_interval_contains_the_median_as_often_as_it_says():
    """About 96.5 of 100 intervals from a skewed distribution contain its median."""
    chance = random.Random(11)
    hits = 0
    for _ in range(4000):
        low, high, _ = interval([chance.lognormvariate(0, 1) for _ in range(15)])
        hits += low <= 1 <= high
    assert hits / 4000 == pytest.approx(0.965, abs=0.01)


@pytest.mark.parametrize(
    ("ours", "more", "words"),
    [
        ([0.9, 1.0, 1.05], False, "reached"),
        ([0.9, 1.0, 1.2], False, "reached, within the interval"),
        ([1.05, 1.2, 1.3], False, "not reached, within the interval"),
        ([1.15, 1.2, 1.3], False, "not reached"),
        ([1.15, 1.2, 1.3], True, "reached"),
        ([1.05, 1.2, 1.3], True, "reached, within the interval"),
        ([0.9, 1.0, 1.05], True, "not reached"),
    ],
)
def test_a_verdict_says_how_sure_it_is(ours, more, words):
    """The median decides; a bound within the interval is mentioned."""
    figures = {OURS: {"value": ours}, UVLOOP: {"value": [1.0, 1.0, 1.0]}}
    goal = judged(Goal(OURS, UVLOOP, 1.1, more=more), figures)
    assert verdict(goal) == words
    assert goal["median"] == median(ours)


def test_a_goal_without_figures_is_not_judged():
    """There is no ratio if one of the two contenders is missing."""
    goal = judged(Goal(OURS, UVLOOP, 1.1), {OURS: {"value": [1.0]}})
    assert verdict(goal) == "not measured"


@pytest.mark.parametrize(
    ("server", "load", "full"), [(0.99, 0.99, False), (0.6, 0.8, False), (0.6, 0.95, True)]
)
def test_a_load_that_was_the_limit_is_marked(server, load, full):
    """The load was the limit if it was busy while the server was not."""
    turns = {"value": [1.0], "server_busy": [server], "load_busy": [load]}
    assert load_was_full(turns) == full


def test_processor_time_includes_threads_that_have_ended(tmp_path):
    """We see what another process reports about itself."""
    source = (
        "import signal, threading, time\n"
        "def work():\n"
        "    until = time.thread_time() + 0.02\n"
        "    while time.thread_time() < until: pass\n"
        "for _ in range(3):\n"
        "    thread = threading.Thread(target=work)\n"
        "    thread.start(); thread.join()\n"
        "print('spent', time.process_time(), flush=True)\n"
        "signal.pause()\n"
    )
    (tmp_path / "work.py").write_text(source)
    with Running([sys.executable, "work.py"], tmp_path) as running:
        reported = float(running.wait_for(r"spent (\S+)")[1])
        assert 0.06 <= reported <= cpu_seconds(running.process.pid) < math.inf


def result(missing):
    """Return a result with one row, as ``--json`` writes it."""
    turns = {
        name: [value] * 3
        for name, value in {
            "value": 5.0,
            "rate": 1e5,
            "p50": 1.0,
            "p99": 2.0,
            "p999": 3.0,
            "server_busy": 1.0,
            "load_busy": 0.5,
        }.items()
    }
    return {
        "began": "2026-01-02T03:04:05+00:00",
        "took": 60,
        "machine": "a machine",
        "versions": {"netsrv": "1"},
        "settings": {"rounds": 3, "seconds": 0.4},
        "rows": [summary(ECHO, {OURS: turns, UVLOOP: turns}, missing)],
    }


def test_the_tables_have_figures_and_goals():
    """A row has the medians of its contenders, and its goals with ratio, interval and answer."""
    shown = table(result({"gevent": "it is not installed"}))
    assert " 64 bytes: µs of CPU per round trip | 5.00 | 5.00 |  |\n" in shown
    assert " 64 bytes | uvloop | 1.00 (1.00-1.00) | ≤ 1.08: yes | ≤ 1.04: yes\n" in shown
    assert "    | Twisted on epoll |  | not measured |\n" in shown


def test_the_page_is_made_of_the_figures_beside_it():
    """The table and the plots in docs/ are those of docs/benchmark/run.json."""
    run = json.loads((FOLDER / "run.json").read_text())
    page = PAGE.read_text()
    assert replaced(page, table(run)) == page
    assert without_rounds(run) == run
    for row in run["rows"]:
        if row["name"] in PLOTTED:
            assert (FOLDER / f"{row['name']}.svg").read_text() == picture(row)


def test_rows_of_several_runs_are_joined():
    """A row that was measured again is the later one; the order is that of the page."""
    echo, again, udp = ({"name": name, "n": n} for n, name in enumerate(["echo", "echo", "udp"]))
    whole = joined([{"took": 1, "rows": [udp, echo]}, {"took": 2, "rows": [again]}])
    assert whole == {"took": 1, "rows": [again, udp]}


def test_the_page_keeps_the_text_around_the_table():
    """Only the lines between the two comments change, however often they are written."""
    page = PAGE.read_text()
    once = replaced(page, "first")
    assert replaced(once, "second") == replaced(page, "second")
    assert once.partition(BEGIN)[0] == page.partition(BEGIN)[0]
    assert once.partition(END)[2] == page.partition(END)[2]
    with pytest.raises(ValueError, match="has no lines"):
        replaced("nothing", "first")


def test_the_text_names_missing_contenders():
    """The reason stands beside the name."""
    assert "\n  gevent: not measured: it is not installed\n" in text(
        result({"gevent": "it is not installed"})
    )
