"""Long and odd values: each error line stays one short line of printable text."""

import re

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from netsrv.cli.start import error_text_of
from netsrv.config.command_line import OPTIONS, from_command_line
from netsrv.config.keywords import listener
from netsrv.config.model import LISTENER_SETTINGS, SERVER_SETTINGS, ConfigurationError
from netsrv.config.toml import read_configuration
from netsrv.observers.accesslog import AccessLog
from netsrv.observers.accesslogfile import AccessLogFile
from netsrv.registry import Registry, find_services
from netsrv.server.prepare import prepare
from netsrv.settings import MAX_SHOWN_PATH
from netsrv.sockets.steps import SocketError

VALUES = ["x" * 10_000, "1" * 10_000, "\x1b[31m" * 5_000, "a\nb\0" * 5_000, "é" * 10_000]
"""Texts that no message may repeat, nor print as they are."""

TAKEN = {"access_log", "control_token_file", "tls_certificate", "tls_key", "token_file"}
"""Options whose text is checked only when it is used."""

MAX_LENGTH = 900
"""Characters of a printed line."""


def check_lines(text, run=70):
    """Check that a text of error lines is printable, and that no value stands in it whole."""
    for line in text.splitlines():
        assert line.isprintable()
        assert len(line) <= MAX_LENGTH
        assert re.search(rf"([x1é])\1{{{run}}}|(\\x1b\[31m){{{run // 3}}}", line) is None, line
    assert text


def error_of(function, *arguments, **keywords):
    """Return the printed lines of the error that a call raises."""
    with pytest.raises((ConfigurationError, SocketError)) as caught:
        function(*arguments, **keywords)
    return error_text_of(caught.value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:4]))
@pytest.mark.parametrize("prefix", ["", "SO_RCVBUF=", "SO_LINGER=", "SO_BINDTODEVICE=", "SO_"])
@pytest.mark.parametrize("name", [name for name in OPTIONS if OPTIONS[name].kind.metavar])
def test_f139_the_argument_of_an_option_is_cut(name, value, prefix):
    """Every option that takes a value names it in short."""
    if name in TAKEN:
        return
    argument = [prefix + value] if OPTIONS[name].kind.repeatable else prefix + value
    check_lines(error_of(from_command_line, [], {name: argument}))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:4]))
@pytest.mark.parametrize(
    "form", ["{}", ":{}", "{}:7", "[{}]:7", "7:{}", "7{}", "echo={}:{}", "x{}=7", "[::1]:{}"]
)
@pytest.mark.parametrize("transport", ["tcp", "udp", "unix"])
def test_f139_an_address_is_cut(transport, form, value):
    """The service before it, too; what the parser lets pass, the start names in short."""

    def start():
        prepare(from_command_line([(transport, form.format(value, value))]), Registry())

    check_lines(error_of(start))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:4]))
@pytest.mark.parametrize("name", [*LISTENER_SETTINGS, *SERVER_SETTINGS, "service", "tcp", "other"])
def test_f139_the_value_of_a_key_is_cut(name, value, tmp_path):
    """Whatever the key and its type."""
    quoted = value.replace("\x1b", "\\u001b").replace("\n", "\\n").replace("\0", "\\u0000")
    tables = dict.fromkeys(SERVER_SETTINGS, "") | {
        key: setting.section.table for key, setting in LISTENER_SETTINGS.items()
    }
    table = tables.get(name, "listener")
    lines = [f'{name} = "{quoted}"', "[[listener]]", "service = 5"]
    if name not in SERVER_SETTINGS:
        lines = ["[[listener]]", f"[listener.{table}]" if tables.get(name) else "", lines[0]]
    (tmp_path / "f").write_text("\n".join([*lines, f'"{quoted}" = 1']))
    check_lines(error_of(read_configuration, str(tmp_path / "f"), find_services(), "f"))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:4]))
def test_f139_a_keyword_is_cut(value):
    """The call is named with its arguments, in short."""
    check_lines(error_of(listener, value, 7, "echo"))
    check_lines(error_of(listener, "tcp", value, "echo"))
    check_lines(error_of(listener, "tcp", 7, "echo", overload=value, **{value[:9_000]: 1}))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:4]))
def test_f139_the_path_of_an_access_log_is_cut(value, tmp_path):
    """A path that is too long, or in no folder, is named in short."""
    configuration = from_command_line([], {"access_log": f"{tmp_path}/no/{value}"})
    check_lines(error_of(prepare, configuration, Registry()), run=MAX_SHOWN_PATH + 1)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:4]))
def test_f139_the_path_of_a_token_is_cut(value, tmp_path):
    """A file that is not there is named in short."""
    options = {"address": "127.0.0.1:0", "token_file": f"{tmp_path}/no/{value}"}
    configuration = from_command_line([], options)
    check_lines(error_of(prepare, configuration, Registry()), run=MAX_SHOWN_PATH + 1)


def test_f139_names_in_the_log_are_printable():
    """A program's name of a service is one line; so is a class."""
    odd = type("Odd\x1b", (object,), {"buildProtocol": print})()
    assert listener("tcp", 7, odd).service_name == "Odd\\x1b"
    assert listener("tcp", 7, odd, name="a\nb\x1b[31m").service_name == "a\\nb\\x1b[31m"


def test_f139_the_path_of_an_access_log_is_escaped_in_the_log(tmp_path):
    """A path may hold any character but NUL; the log does not send them to a terminal."""
    reactor, path = Clock(), tmp_path / "a\x1b[31m\nb"
    path.symlink_to("/dev/full")
    log = AccessLog(reactor, AccessLogFile(str(path)), False)
    log.file.add("line\n")
    with capturedLogs() as events:
        log.close()
    assert [event["path"].isprintable() for event in events] == [True]
