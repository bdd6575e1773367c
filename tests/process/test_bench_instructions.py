"""``bench.instructions`` counts instructions, and compares them with the accepted ones."""

import json
import os
import sys

import pytest

from bench import instructions
from bench.instructions import FIGURES, PROGRAMS, TURNS, WORKS, accept, compare, environment
from bench.rows import OURS, UVLOOP
from tests.checkout import TOP
from tests.process.needs import tool
from tests.process.starts import finish

pytestmark = pytest.mark.version_independent


@pytest.fixture
def file(tmp_path):
    """Return a file with accepted figures: 1,000 instructions for echo."""
    path = tmp_path / "figures.json"
    accept({"echo": {OURS: 1000, UVLOOP: 500}}, path)
    return path


def test_up_to_five_percent_more_instructions_pass(file, capsys):
    """The table has both figures, and the ratio to uvloop."""
    assert compare({"echo": {OURS: 1050, UVLOOP: 500}}, file) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "echo",
        "1,050",
        "1,000",
        "500",
        "2.10",
    ]


@pytest.fixture
def again(monkeypatch):
    """Replace the measurement by the figures that a test puts here; return what was asked for."""
    asked, figures = [], {}

    def measure_all(works, names, turns):
        asked.append((works, names, turns > TURNS))
        return {work: {OURS: figures[work]} for work in works}

    monkeypatch.setattr(instructions, "measure_all", measure_all)
    return asked, figures


def test_more_than_five_percent_fail(file, again, capsys):
    """The output names the work, the figures and the command that accepts them."""
    asked, figures = again
    figures["echo"] = 1060
    assert compare({"echo": {OURS: 1051, UVLOOP: 500}, "udp": {OURS: 9}}, file) == 1
    output = capsys.readouterr().out
    assert "echo: 1,051 instructions, +5.1% of the accepted 1,000" in output
    assert output.endswith("python -m bench.instructions --only echo,udp --accept\n")
    assert asked == [(["echo"], [OURS], True)]


def test_a_disturbed_count_is_measured_again(file, again, capsys):
    """The lower of both counts is compared."""
    again[1]["echo"] = 1040
    assert compare({"echo": {OURS: 1200, UVLOOP: 500}}, file) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:3] == ["echo", "1,040", "1,000"]


def test_figures_of_other_versions_are_not_compared(file, capsys):
    """Another Python executes other instructions for the same work."""
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "environment": {"python": "2.7"}}))
    assert compare({"echo": {OURS: 9999}}, file) == 0
    assert "Not compared" in capsys.readouterr().out


def test_accepting_one_work_keeps_the_others(file):
    """The file has the works in the order of the table."""
    accept({"udp": {OURS: 3}, "accept": {OURS: 2}}, file)
    record = json.loads(file.read_text())
    assert record["environment"] == environment()
    assert list(record["instructions"]) == ["echo", "accept", "udp"]


def test_the_committed_figures_are_of_all_works():
    """A work without a figure would never be compared."""
    assert list(json.loads(FIGURES.read_text())["instructions"]) == list(WORKS)


def test_without_valgrind_nothing_is_measured():
    """The reason is printed, and it is no failure."""
    environ = {**os.environ, "PATH": ""}
    done = finish([sys.executable, "-m", "bench.instructions"], TOP, env=environ)
    assert (done.returncode, done.stdout) == (0, "Not measured: valgrind is not installed\n")


def test_the_instructions_of_a_datagram_are_counted(tmp_path):
    """A measurement of one work and contender writes its figure, and keeps that of the other."""
    for program in PROGRAMS:
        tool(program)
    path = tmp_path / "new.json"
    accept({"udp": {OURS: 1, UVLOOP: 2}}, path)
    words = ["--only", "udp", "--ours", "--figures", str(path), "--accept"]
    done = finish([sys.executable, "-m", "bench.instructions", *words], TOP)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())["instructions"]["udp"]
    assert 500 < figures[OURS] < 20_000
    assert figures[UVLOOP] == 2
