"""The comparison in ``bench/`` runs, and its figures are sane."""

import json
import re
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bench.compare import Measurement, Progress, rows_named
from bench.plot import picture
from bench.processes import compile_programs
from bench.rows import OURS, C
from tests.checkout import TOP
from tests.process.needs import tool
from tests.process.starts import finish

pytestmark = pytest.mark.version_independent

SMALLEST = "bench.compare --rounds 2 --seconds 0.02"
ROWS = {"echo": "netsrv / C", "udp-one": "netsrv / Twisted on epoll"}
FIGURES = {"value", "amount", "rate", "cpu_seconds", "server_busy", "load_busy", "p50", "p99"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Measure one row of TCP and one of UDP, once for all tests."""
    tool("cc")
    folder = tmp_path_factory.mktemp("bench")
    where = ["--only", ",".join(ROWS), "--json", f"{folder}/run.json"]
    done = finish([sys.executable, "-m", *SMALLEST.split(), *where], TOP)
    assert done.returncode == 0, done.stderr
    return done, folder


@pytest.fixture(scope="module")
def rows(run):
    """Return the rows of the JSON file, by name."""
    _, folder = run
    return {row["name"]: row for row in json.loads((folder / "run.json").read_text())["rows"]}


@pytest.mark.parametrize("name", ROWS)
def test_every_installed_contender_is_measured(rows, name):
    """A contender is missing only if its package is not installed."""
    assert "netsrv" in rows[name]["contenders"]
    assert all("is not installed" in reason for reason in rows[name]["missing"].values())


@pytest.mark.parametrize("name", ROWS)
def test_the_figures_are_sane(rows, name):
    """Each figure has a number for each round; work was done and cost CPU time."""
    for one in rows[name]["contenders"].values():
        turns = one["turns"]
        assert turns.keys() >= FIGURES
        assert all(len(numbers) == 2 for numbers in turns.values())
        assert all(number > 0 for key in FIGURES for number in turns[key])
        assert turns["lost"] == [0, 0]
        for cost, spent, amount in zip(
            turns["value"], turns["cpu_seconds"], turns["amount"], strict=True
        ):
            assert cost == pytest.approx(spent / amount * 1e6)
        assert all(low <= high for low, high in zip(turns["p50"], turns["p99"], strict=True))


@pytest.mark.parametrize("name", ROWS)
def test_ratios_are_those_of_the_rounds(rows, name):
    """The interval goes from the smallest ratio of a round to the largest."""
    judged = [goal for goal in rows[name]["goals"] if goal["reached"] is not None]
    assert judged
    for goal in judged:
        of, against = (
            rows[name]["contenders"][goal[key]]["turns"]["value"] for key in ("of", "against")
        )
        ratios = sorted(one / other for one, other in zip(of, against, strict=True))
        assert goal["interval"] == pytest.approx(ratios)
        assert goal["median"] == pytest.approx(sum(ratios) / 2)
        assert goal["reached"] == (goal["median"] <= goal["limit"])


@pytest.mark.parametrize("name", ROWS)
def test_the_text_has_contenders_and_verdicts(run, name):
    """Each contender has a line, and each goal its ratio, bound and verdict."""
    done, _ = run
    number = r"\d[\d,]*\.\d\d"
    interval = rf"{number} \({number}-{number}\)"
    assert re.search(rf"^  netsrv +{interval} +[\d,]+ ", done.stdout, re.MULTILINE)
    line = rf"^  {ROWS[name]} +{interval} +(goal|chase) at most \d\.\d\d +(not )?reached"
    assert re.search(line, done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ROWS)
def test_the_plot_has_a_bar_for_each_contender(rows, name):
    """The plot is well-formed XML, and names every contender."""
    root = ElementTree.fromstring(picture(rows[name]))
    words = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert words >= rows[name]["contenders"].keys()
    bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("x")]
    assert len(bars) == len(rows[name]["contenders"])
    assert all(float(bar.get("width")) > 0 for bar in bars)


def test_progress_is_shown_apart_from_the_results(run):
    """Each row is announced on standard error."""
    done, _ = run
    announced = [line.split()[-1] for line in done.stderr.splitlines()]
    assert announced == list(ROWS)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--only ecko", "--only ecko: there is no such row; there are echo, "),
        ("--rounds 0", "invalid number above 0: int value: '0'"),
        ("--seconds soon", "invalid number above 0: float value: 'soon'"),
        ("--json /nowhere/run.json", "No such file or directory: '/nowhere/run.json'"),
    ],
)
def test_a_bad_option_is_an_error_before_anything_is_measured(option, message):
    """The last line names the option and what is wrong with it."""
    done = finish([sys.executable, "-m", "bench.compare", *option.split()], TOP)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]


def test_without_a_compiler_only_other_rows_are_measured(tmp_path):
    """A row that needs the load generator names the missing compiler."""
    only = ["--only", "echo,start", "--rounds", "1", "--json", str(tmp_path / "run.json")]
    command = [sys.executable, "-m", "bench.compare", *only]
    done = finish(command, TOP, env={"PATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    echo, start = json.loads((tmp_path / "run.json").read_text())["rows"]
    assert echo["contenders"] == {}
    assert "there is no C compiler (cc)" in echo["missing"]["netsrv"]
    assert start["contenders"].keys() == {
        "netsrv serve",
        "twistd netsrv",
        "twistd, an empty service",
    }


def test_a_contender_that_does_not_start_is_left_out(tmp_path):
    """The others are measured, and the last line that it printed is the reason."""
    tool("cc")
    assert compile_programs(tmp_path) is None
    row = replace(rows_named("udp-one")[0], contenders=(OURS, C), options=("--backlog", "long"))
    measurement = Measurement(row, "127.0.0.1", tmp_path)
    measurement.run(1, 0.01, Progress())
    result = measurement.result()
    assert result["contenders"].keys() == {C}
    assert "--backlog" in result["missing"][OURS]
    assert all(goal["reached"] is None for goal in result["goals"])
