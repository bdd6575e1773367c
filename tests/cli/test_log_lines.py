"""The lines of the log of netsrv serve, in each form, byte for byte."""

import io
import json
import os
import socket
import time

import pytest
from twisted.logger import Logger, LogPublisher
from twisted.python import log as old_log
from twisted.python.failure import Failure

from netsrv.cli.log_lines import file_text, journal_text, json_lines, logfmt_lines, terminal_text
from netsrv.cli.log_output import choose_form, is_journal, make_log_observer
from netsrv.config.model import LogFormat, LogLevel
from netsrv.interfaces import ListenerInfo, RejectReason

NOW = 1_700_000_000.25
"""2023-11-14T22:13:20.250 in UTC."""

LISTENER = ListenerInfo("tcp", "127.0.0.1:7", "echo")

FORMS = {
    "file": file_text(),
    "terminal": terminal_text(colours=False),
    "colours": terminal_text(colours=True),
    "journal": journal_text,
    "json": json_lines(),
    "logfmt": logfmt_lines(),
}


@pytest.fixture(autouse=True)
def in_kathmandu(monkeypatch):
    """Be 5:45 hours east of UTC."""
    monkeypatch.setenv("TZ", "NPT-05:45")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def event_of(level, message, **fields):
    """Return the event that a logger emits at `NOW`."""
    events = []
    publisher = LogPublisher(events.append)
    getattr(Logger("netsrv.test", observer=publisher), level)(message, **fields)
    return {**events[0], "log_time": NOW}


def rejected():
    """Return a warning with the fields of the log observer."""
    return event_of(
        "warn",
        "{listener}: rejected {peer} ({option})",
        listener=LISTENER,
        peer="192.0.2.1:40000",
        option=RejectReason.PER_SOURCE.option,
        reason=RejectReason.PER_SOURCE,
    )


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("file", "2023-11-15T03:58:20.250+05:45 Got connection from 127.0.0.1:4"),
        ("terminal", "03:58:20  Got connection from 127.0.0.1:4"),
        ("colours", "03:58:20  Got connection from 127.0.0.1:4"),
        ("journal", "<6>Got connection from 127.0.0.1:4"),
        (
            "json",
            '{"time":"2023-11-15T03:58:20.250+05:45","level":"info",'
            '"message":"Got connection from 127.0.0.1:4","peer":"127.0.0.1:4",'
            '"listener":"tcp 127.0.0.1:7 (echo)"}',
        ),
        (
            "logfmt",
            "time=2023-11-15T03:58:20.250+05:45 level=info "
            'message="Got connection from 127.0.0.1:4" peer=127.0.0.1:4 '
            'listener="tcp 127.0.0.1:7 (echo)"',
        ),
    ],
)
def test_an_ordinary_line(form, line):
    """It has no level where the level is info, and never the name of a class."""
    event = event_of("info", "Got connection from {peer}", peer="127.0.0.1:4", listener=LISTENER)
    assert FORMS[form](event) == f"{line}\n"


@pytest.mark.parametrize(
    ("form", "line"),
    [
        (
            "file",
            "2023-11-15T03:58:20.250+05:45 warn: tcp 127.0.0.1:7 (echo): rejected 192.0.2.1:40000 "
            "(--per-source)",
        ),
        (
            "terminal",
            "03:58:20  warn: tcp 127.0.0.1:7 (echo): rejected 192.0.2.1:40000 (--per-source)",
        ),
        (
            "colours",
            "03:58:20  \x1b[33mwarn\x1b[0m: tcp 127.0.0.1:7 (echo): rejected 192.0.2.1:40000 "
            "(--per-source)",
        ),
        ("journal", "<4>tcp 127.0.0.1:7 (echo): rejected 192.0.2.1:40000 (--per-source)"),
        (
            "json",
            '{"time":"2023-11-15T03:58:20.250+05:45","level":"warn",'
            '"message":"tcp 127.0.0.1:7 (echo): rejected 192.0.2.1:40000 (--per-source)",'
            '"listener":"tcp 127.0.0.1:7 (echo)","peer":"192.0.2.1:40000",'
            '"option":"--per-source","reason":"per_source"}',
        ),
        (
            "logfmt",
            "time=2023-11-15T03:58:20.250+05:45 level=warn "
            'message="tcp 127.0.0.1:7 (echo): rejected 192.0.2.1:40000 (--per-source)" '
            'listener="tcp 127.0.0.1:7 (echo)" peer=192.0.2.1:40000 option=--per-source '
            "reason=per_source",
        ),
    ],
)
def test_a_warning(form, line):
    """It shows its level, and the fields have the reason and the option."""
    assert FORMS[form](rejected()) == f"{line}\n"


def failed():
    """Return an event with a failure that has no traceback."""
    return event_of("critical", "it failed", log_failure=Failure(ValueError("a\x1b[31mb\nc")))


def test_a_traceback_stays_within_the_record():
    """Its lines are indented, or have the priority each, or are one field; all is escaped."""
    first, *others = FORMS["file"](failed()).splitlines()
    assert first == "2023-11-15T03:58:20.250+05:45 critical: it failed"
    assert all(line.startswith("\t") for line in others)
    assert others[-2:] == ["\tFailure: builtins.ValueError: a\\x1b[31mb", "\tc"]
    lines = FORMS["journal"](failed()).splitlines()
    assert lines[0] == "<2>it failed"
    assert all(line.startswith("<2>") for line in lines)
    record = json.loads(FORMS["json"](failed()))
    assert (record["message"], record["level"]) == ("it failed", "critical")
    assert record["traceback"].endswith("ValueError: a\x1b[31mb\nc")
    assert FORMS["logfmt"](failed()).count("\n") == 1


class Unprintable:
    """An object whose text raises."""

    def __str__(self):
        raise RuntimeError("no text")


ODD = {
    "none": None,
    "yes": True,
    "float": 0.5,
    "nan": float("nan"),
    "huge": 10**5000,
    "surrogate": "\udc80",
    "quotes": 'a "b" \\ c\n',
    "empty": "",
    "bytes": b"\x00",
    "list": [1, "two"],
    "object": Unprintable(),
    "key with = space": 1,
    "time": "hidden",
    "log_own": "hidden",
}


def test_json_of_odd_values():
    """Whatever a field holds, the line is one object of JSON."""
    line = FORMS["json"](event_of("info", "odd", **ODD))
    assert line.isascii()
    record = json.loads(line, parse_constant=pytest.fail)
    assert record.pop("huge").startswith("0x")
    assert record == {
        "time": "2023-11-15T03:58:20.250+05:45",
        "level": "info",
        "message": "odd",
        "none": None,
        "yes": True,
        "float": 0.5,
        "nan": "nan",
        "surrogate": "\udc80",
        "quotes": 'a "b" \\ c\n',
        "empty": "",
        "bytes": "b'\\x00'",
        "list": "[1, 'two']",
        "object": "RuntimeError: no text",
        "key with = space": 1,
    }


def test_logfmt_of_odd_values():
    """Values with spaces, quotes or control characters are quoted, keys are plain."""
    del (odd := dict(ODD))["huge"]
    assert FORMS["logfmt"](event_of("info", "odd", **odd)) == (
        "time=2023-11-15T03:58:20.250+05:45 level=info message=odd none=null yes=true float=0.5 "
        'nan=nan surrogate="\\udc80" quotes="a \\"b\\" \\\\ c\\n" empty="" '
        'bytes="b\'\\\\x00\'" list="[1, \'two\']" object="RuntimeError: no text" '
        "key_with___space=1\n"
    )


@pytest.mark.parametrize("form", FORMS)
def test_an_event_without_a_message_is_no_line(form):
    """As Twisted's own observers have it."""
    assert FORMS[form](event_of("info", "")) is None


def test_lines_of_the_old_interface_have_no_class_name():
    """Twisted's own lines, and those of services that use ``twisted.python.log``."""
    output = Output()
    observer = make_log_observer(output, LogFormat.TEXT, lambda: LogLevel.INFO, {})
    publisher = LogPublisher(observer)
    old = old_log.LogPublisher(publishPublisher=publisher, observerPublisher=publisher)
    old.msg("hello", system="Some.Class")
    assert output.getvalue().endswith("+05:45 hello\n")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (LogLevel.DEBUG, ["critical", "error", "warn", "info", "debug"]),
        (LogLevel.WARN, ["critical", "error", "warn"]),
        (LogLevel.CRITICAL, ["critical"]),
    ],
)
def test_the_level_is_that_of_now(level, shown):
    """Less severe lines are left out, by the level in effect when they are logged."""
    output, levels = Output(), [LogLevel.CRITICAL]
    observe = make_log_observer(output, LogFormat.TEXT, lambda: levels[-1], {})
    levels.append(level)
    for name in ("critical", "error", "warn", "info", "debug"):
        observe(event_of(name, name))
    assert [line.split()[-1] for line in output.getvalue().splitlines()] == shown


class Output(io.StringIO):
    """A stream that is, or is not, a terminal."""

    terminal = False

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "environ", "line"),
    [
        (True, {}, "03:58:20  \x1b[33mwarn\x1b[0m: x\n"),
        (True, {"NO_COLOR": ""}, "03:58:20  \x1b[33mwarn\x1b[0m: x\n"),
        (True, {"NO_COLOR": "1"}, "03:58:20  warn: x\n"),
        (True, {"TERM": "dumb"}, "03:58:20  warn: x\n"),
        (False, {}, "2023-11-15T03:58:20.250+05:45 warn: x\n"),
    ],
)
def test_the_text_depends_on_the_stream(terminal, environ, line):
    """A terminal gets short lines, in colours unless the environment is against them."""
    output = Output()
    output.terminal = terminal
    assert choose_form(output, LogFormat.TEXT, environ)(event_of("warn", "x")) == line


def test_a_stream_to_the_journal(tmp_path):
    """JOURNAL_STREAM names the device and the inode of the stream that journald reads."""
    with open(tmp_path / "journal", "w") as stream:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(stream, environ)
        assert choose_form(stream, LogFormat.TEXT, environ) is journal_text
        assert choose_form(stream, LogFormat.JSON, environ) is not journal_text
        assert not is_journal(stream, {})
        assert not is_journal(stream, {"JOURNAL_STREAM": "1:2"})
    assert not is_journal(Output(), environ)


def test_standard_error_has_a_socket_of_its_own_to_the_journal(tmp_path):
    """Systemd names that one then; a file beside it is no journal."""
    ours, errors = socket.socketpair()
    with ours, errors, ours.makefile("w") as stream, open(tmp_path / "log", "w") as file:
        status = os.fstat(errors.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(stream, environ, errors.fileno())
        assert not is_journal(file, environ, errors.fileno())
