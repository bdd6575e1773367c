"""What ``bench/`` makes of its figures: intervals, verdicts, the page."""

import math
import random
import sys
from statistics import median

import pytest

from bench.measure import cpu_seconds, interval
from bench.page import BEGIN, END, PAGE, replaced, tables
from bench.report import judged, load_was_full, summary, text, verdict
from bench.rows import OURS, ROWS, UVLOOP, Goal
from tests.process.running import Running

ECHO = ROWS[0]


@pytest.mark.parametrize(
    ("count", "place", "sure"), [(3, 1, 0.75), (6, 1, 0.96875), (15, 4, 0.9648), (25, 8, 0.9567)]
)
def test_the_interval_is_the_one_of_the_tables(count, place, sure):
    """The ranks and the confidence are those that the binomial distribution gives."""
    numbers = list(range(1, count + 1))
    random.Random(count).shuffle(numbers)
    low, high, confidence = interval(numbers)
    assert (low, high) == (place, count + 1 - place)
    assert confidence == pytest.approx(sure, abs=1e-4)


def test_the_interval_contains_the_median_as_often_as_it_says():
    """Drawn from a skewed distribution, about 96.5 of 100 intervals contain its median."""
    chance = random.Random(11)
    hits = 0
    for _ in range(4000):
        low, high, _ = interval([chance.lognormvariate(0, 1) for _ in range(15)])
        hits += low <= 1 <= high
    assert hits / 4000 == pytest.approx(0.965, abs=0.01)


@pytest.mark.parametrize(
    ("ours", "more", "said"),
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
def test_a_verdict_says_how_sure_it_is(ours, more, said):
    """The median decides, and whether the interval is all on its side is said."""
    figures = {OURS: {"value": ours}, UVLOOP: {"value": [1.0, 1.0, 1.0]}}
    goal = judged(Goal(OURS, UVLOOP, 1.1, more=more), figures)
    assert verdict(goal) == said
    assert goal["median"] == median(ours)


def test_a_goal_without_figures_is_not_judged():
    """Where one of the two is missing there is no ratio."""
    goal = judged(Goal(OURS, UVLOOP, 1.1), {OURS: {"value": [1.0]}})
    assert verdict(goal) == "not measured"


@pytest.mark.parametrize(
    ("server", "load", "full"), [(0.99, 0.99, False), (0.6, 0.8, False), (0.6, 0.95, True)]
)
def test_a_load_that_was_the_limit_is_marked(server, load, full):
    """It is one that was busy while the server was not."""
    turns = {"value": [1.0], "server_busy": [server], "load_busy": [load]}
    assert load_was_full(turns) == full


def test_processor_time_is_that_of_all_threads_also_of_those_that_have_ended(tmp_path):
    """What another process says of itself is what we see from here."""
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
        said = float(running.wait_for(r"spent (\S+)")[1])
        assert 0.06 <= said <= cpu_seconds(running.process.pid) < math.inf


def result(missing):
    """Give a result with one row, as ``--json`` has it."""
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


def test_the_page_has_figures_goals_and_who_is_missing():
    """All that the run knows stands in the tables."""
    shown = tables(result({"gevent": "it is not installed"}))
    assert (
        "netsrv / uvloop\n     - 1.00 (1.00-1.00)\n     - goal at most 1.10\n     - reached"
        in shown
    )
    assert "* - netsrv\n     - 5.00 (5.00-5.00)\n     - 100,000\n" in shown
    assert "gevent was not measured: it is not installed." in shown
    assert ".. image:: benchmark/echo.svg" in shown


def test_the_page_keeps_what_was_written_by_hand():
    """Only what is between the two comments changes, however often it is written."""
    page = PAGE.read_text()
    once = replaced(page, "first")
    assert replaced(once, "second") == replaced(page, "second")
    assert once.partition(BEGIN)[0] == page.partition(BEGIN)[0]
    assert once.partition(END)[2] == page.partition(END)[2]
    with pytest.raises(ValueError, match="has no lines"):
        replaced("nothing", "first")


def test_the_text_says_who_is_missing():
    """With the reason."""
    assert "\n  gevent: not measured: it is not installed\n" in text(
        result({"gevent": "it is not installed"})
    )
