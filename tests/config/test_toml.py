"""The configuration file: what it makes, and every mistake at once."""

import datetime
import os
from ipaddress import ip_network
from textwrap import dedent

import attrs
import pytest
from attrs import field, frozen, validators
from hypothesis import given
from hypothesis import strategies as st
from zope.interface import implementer

from netsrv.cli.mistakes import UsageMistake
from netsrv.cli.start import Start
from netsrv.config.command_line import from_command_line
from netsrv.config.document import LISTENER_KEYS
from netsrv.config.model import (
    LISTENER_SETTINGS,
    SERVER_SETTINGS,
    TABLE_SETTINGS,
    ConfigurationError,
    LogLevel,
)
from netsrv.config.toml import parse_toml, read_configuration
from netsrv.guards.limits import Limits, Overload
from netsrv.guards.rates import Rate
from netsrv.guards.sources import source_of
from netsrv.interfaces import IStreamService
from netsrv.registry import Registry, find_services
from netsrv.services.qotd import QotdSettings
from netsrv.sockets.addresses import InternetAddress, UnixPath
from netsrv.sockets.options import parse_option


def even(instance, attribute, value):
    """Refuse odd numbers, and ask the instance as validators may."""
    if value % 2:
        raise ValueError(f"{value}: an even number, for {instance.word}")


@frozen
class Inner:
    """A table within the settings."""

    ratio: float = 1.0


@frozen
class GreetSettings:
    """Settings of a third party's service."""

    word: str
    times: int = field(default=2, validator=even)
    loud: bool = False
    names: tuple[str, ...] = ()
    inner: Inner = Inner()
    level: int = field(default=1, validator=validators.ge(1))


@implementer(IStreamService)
class Greet:
    """A third party's service."""

    name = "greet"
    description = "greet"
    settings = GreetSettings


@frozen
class Moody:
    """Settings that raise on any value."""

    word: str = ""

    def __attrs_post_init__(self):
        raise KeyError("word") if self.word == "key" else SystemExit("no luck today")


@implementer(IStreamService)
class MoodyService:
    """A service whose settings raise unexpected exceptions."""

    name = "moody"
    description = "moody"
    settings = Moody


@pytest.fixture(scope="module")
def registry():
    """The services that come with netsrv, and two of a third party."""
    ours = find_services().services
    return Registry({**ours, "greet": Greet(), "moody": MoodyService()})


@pytest.fixture
def read(registry, tmp_path):
    """Return a function that reads a text as the file ``netsrv.toml``."""

    def read(text):
        path = tmp_path / "netsrv.toml"
        path.write_text(dedent(text), "utf-8")
        return read_configuration(str(path), registry, "netsrv.toml")

    return read


@pytest.fixture
def mistakes(read):
    """Return a function that reads a text and returns the lines about its mistakes."""

    def mistakes(text):
        with pytest.raises(ConfigurationError) as caught:
            read(text)
        assert str(caught.value).splitlines() == list(caught.value.lines)
        start = "netsrv.toml: "
        assert all(line.startswith(start) for line in caught.value.lines)
        return [line.removeprefix(start) for line in caught.value.lines]

    return mistakes


# The configuration


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_f141_an_empty_list_in_a_file_is_not_a_missing_one(read, transport):
    """A template whose list of allowed networks is empty gives a listener that lets no peer in."""
    text = f'[[listener]]\nservice = "echo"\n{transport} = 7\naccess = {{ %s }}'
    empty = read(text % "only_from = []").listeners[0].limits
    missing = read(text % "no_access = []").listeners[0].limits
    assert (empty.only_from, missing.only_from) == ((), None)
    source = source_of("127.0.0.1")
    assert (empty.access.allows(source), missing.access.allows(source)) == (False, True)


def test_every_key_has_its_effect(read):
    """All keys together give a listener with all these settings."""
    configuration = read(
        """
        shutdown_timeout = 0.5
        log_rate = 0

        [[listener]]
        service = "echo"
        tcp = "127.0.0.1:7"
        backlog = 4096
        reuse_address = false
        reuse_port = true
        socket_options = { SO_RCVBUF = 1048576, SO_LINGER = "1:0", SO_BINDTODEVICE = "lo" }

        [listener.limits]
        max_connections = 9
        overload = "close"
        per_source = 2
        connection_rate = "50:100"
        datagram_rate = "none"
        refuse_source_ports = [7, "20-21"]
        idle_timeout = 60
        lifetime = 3600.5
        write_timeout = "none"
        close_grace = 1

        [listener.access]
        only_from = ["10.0.0.0/8", "2001:db8::/32"]
        no_access = ["10.66.0.0/16"]
        """
    )
    assert (configuration.shutdown_timeout, configuration.log_rate) == (0.5, 0)
    [listener] = configuration.listeners
    assert listener.address_label == "tcp 127.0.0.1:7"
    assert listener.service == "echo"
    assert listener.backlog == 4096
    assert (listener.reuse_address, listener.reuse_port) == (False, True)
    options = ("SO_RCVBUF=1048576", "SO_LINGER=1:0", "SO_BINDTODEVICE=lo")
    assert listener.socket_options == tuple(map(parse_option, options))
    assert listener.config_location == "netsrv.toml: listener[0]"
    assert listener.limits == Limits(
        9,
        Overload.CLOSE,
        2,
        Rate(50, 100),
        (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        (ip_network("10.66.0.0/16"),),
        None,
        frozenset({7, 20, 21}),
        60,
        3600.5,
        None,
        1,
    )


def test_defaults_are_those_of_the_command_line(read, tmp_path):
    """A listener with only an address equals one of the command line."""
    configuration = read(
        """
        [[listener]]
        tcp = 7
        [[listener]]
        udp = "same"
        [[listener]]
        unix = "x.sock"
        """
    )
    unix = str(tmp_path / "x.sock")
    same = from_command_line([("tcp", "7"), ("udp", "same"), ("unix", unix)])
    assert configuration == same


PATHS = """
access_log = "{0}log"
[[listener]]
unix = "{0}x.sock"
service = "qotd"
settings.file = "{0}quotes"
"""


@pytest.mark.parametrize("begin", ["", "sub/../", "{folder}/"])
def test_relative_paths_begin_in_the_folder_of_the_file(begin, tmp_path, monkeypatch):
    """The working directory has no part in it, and absolute paths stay; errors show the whole."""
    folder = tmp_path / "etc"
    (folder / "sub").mkdir(parents=True)
    (folder / "netsrv.toml").write_text(PATHS.format(begin.format(folder=folder)))
    monkeypatch.chdir(tmp_path)
    line = (
        r"etc/netsrv\.toml: listener\[0\]\.settings\.file: /.*/etc/(sub/../)?quotes: No such file"
    )
    with pytest.raises(ConfigurationError, match=line):
        read_configuration("etc/netsrv.toml", find_services())
    (folder / "quotes").write_text("One.\n")
    configuration = read_configuration("etc/netsrv.toml", find_services())
    [listener] = configuration.listeners
    paths = (configuration.access_log, listener.address.path, listener.settings.file)
    assert [os.path.normpath(path) for path in paths] == [
        f"{folder}/{name}" for name in ("log", "x.sock", "quotes")
    ]
    assert all(map(os.path.isabs, paths))
    assert configuration.file == f"{folder}/netsrv.toml"


def test_paths_in_a_linked_file_begin_in_the_folder_of_the_link(tmp_path):
    """So a file may be replaced by a link elsewhere, as Kubernetes does."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "netsrv.toml").write_text('access_log = "log"\n[[listener]]\ntcp = 0\n')
    (tmp_path / "netsrv.toml").symlink_to("real/netsrv.toml")
    configuration = read_configuration(str(tmp_path / "netsrv.toml"), find_services())
    assert configuration.access_log == str(tmp_path / "log")


def test_a_path_of_the_access_log_may_be_standard_output(read):
    """A dash is no path."""
    assert read('access_log = "-"\n[[listener]]\ntcp = 0').access_log == "-"


def test_a_socket_path_that_is_too_long_from_the_root_is_relative(tmp_path, monkeypatch):
    """The kernel takes 107 bytes: what is short from the working directory works."""
    folder = tmp_path / ("x" * 60) / ("y" * 60)
    folder.mkdir(parents=True)
    (folder / "netsrv.toml").write_text('[[listener]]\nunix = "x.sock"\n')
    monkeypatch.chdir(folder)
    [listener] = read_configuration("netsrv.toml", find_services()).listeners
    assert listener.address == UnixPath("x.sock")


def test_the_level_of_the_command_line_overrides_quiet_of_the_file(read):
    """Otherwise there would be no way to more lines."""
    file = read("quiet = true\nlog_level = 'info'\n[[listener]]\ntcp = 0")
    assert file.level is LogLevel.WARN
    assert from_command_line([], {"log_level": "debug"}, file).level is LogLevel.DEBUG
    assert from_command_line([], {"log_level": "error", "quiet": True}, file).level == "error"
    assert from_command_line([], {}, file).level is LogLevel.WARN


@pytest.mark.parametrize(
    ("transport", "text", "address"),
    [
        ("tcp", "7", InternetAddress("", 7)),
        ("tcp", "'7'", InternetAddress("", 7)),
        ("udp", "'[::1]:0'", InternetAddress("::1", 0)),
        ("unix", "'/run/x=1:2'", UnixPath("/run/x=1:2")),
    ],
)
def test_forms_of_addresses(transport, text, address, read):
    """Addresses are those of the command line, and a port may be a number."""
    assert read(f"[[listener]]\n{transport} = {text}").listeners[0].address == address


@pytest.mark.parametrize("mode", ["'0660'", "'660'", "'0o660'", "0o660"])
def test_forms_of_permissions(mode, read):
    """Permissions are octal, as a text or as TOML has such numbers."""
    assert read(f"[[listener]]\nunix = 'x'\nmode = {mode}").listeners[0].mode == 0o660


def limit(key, value):
    """Write a file with one limit."""
    return f"[[listener]]\nudp = 7\n[listener.limits]\n{key} = {value}\n"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("max_connections", "'auto'", "auto"),
        ("connection_rate", "50", "50"),
        ("connection_rate", "0.5", "0.5"),
        ("datagram_rate", "'10:20'", "10:20"),
        ("refuse_source_ports", "'0-1023,2049'", "0-1023,2049"),
        ("refuse_source_ports", "'none'", "none"),
        ("refuse_source_ports", "[]", "none"),
        ("refuse_source_ports", "53", "53"),
    ],
)
def test_limits_are_those_of_the_command_line(key, value, text, read):
    """A limit in a file means what the option means."""
    assert (
        read(limit(key, value)).listeners
        == from_command_line([("udp", "7")], {key: text}).listeners
    )


def test_a_services_settings_are_of_its_own_class(read):
    """Settings become an instance of the class, also without a table; other services have none."""
    configuration = read(
        """
        [[listener]]
        service = "greet"
        tcp = 7
        settings = { word = "hi", loud = true, names = ["a", "b"], inner.ratio = 2 }
        [[listener]]
        service = "qotd"
        tcp = 17
        [[listener]]
        service = "echo"
        tcp = 9
        settings = {}
        """
    )
    given = GreetSettings("hi", 2, True, ("a", "b"), Inner(2.0))
    assert [listener.settings for listener in configuration.listeners] == [
        given,
        QotdSettings(),
        None,
    ]


def test_each_configuration_reads_the_file_again(registry, tmp_path, monkeypatch):
    """The second one has the changes, also if the working directory is another."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "netsrv.toml"
    path.write_text("[[listener]]\ntcp = 7\n")
    options = Start([("config", "netsrv.toml"), ("udp", "same")])
    assert [listener.address_label for listener in options.configuration(registry).listeners] == [
        "tcp 0.0.0.0:7",
        "udp 0.0.0.0:same",
    ]
    monkeypatch.chdir("/")
    path.write_text("[[listener]]\nunix = 7\n")
    with pytest.raises(ConfigurationError) as caught:
        options.configuration(registry)
    assert str(caught.value) == "netsrv.toml: listener[0].unix: 7: a text, in quotes"
    path.write_text("[[listener]]\ntcp = 8\n")
    assert options.configuration(registry).listeners[0].address_label == "tcp 0.0.0.0:8"


def test_a_path_is_needed():
    """An empty path, as from an unset variable, is a usage error."""
    with pytest.raises(UsageMistake, match="--config needs the path of a file"):
        Start([("config", "")]).check_usage()


# Mistakes


def test_f99_all_mistakes_of_a_file_at_once(mistakes):
    """F99: each mistake has a line with its location and the form that the value should have."""
    text = """
        shutdown_timeout = "5"
        log_rate = -1
        lograte = 5
        [status]
        address = "status:8423:1"
        unix_mode = 660
        token = "secret"
        hosts = ["a b", 5]
        [statuses]
        [[listener]]
        service = "ecko"
        tcp = 65536
        backlog = "1000"
        reuse_port = "yes"
        reuse_address = 1
        mode = "0660"
        settings.x = 1
        [listener.socket_options]
        SO_RCVBUF = "1048576"
        TCP_NODELY = 1
        TCP_CONGESTION = 4
        SO_SNDBUF = true
        [listener.limits]
        max_connections = true
        overload = "drop"
        per_source = 99999999999999999999
        connection_rate = []
        idle_timeout = -60
        only_from = []
        per_sourc = 1
        refuse_source_ports = [1, true]
        [listener.access]
        only_from = ["127.0.0.1/8", 5]
        no_access = "10.0.0.0/8"
        [[listener]]
        udp = "127.0.0.1:7"
        settings = { a = 1 }
        [[listener]]
        udp = "127.0.0.1:7"
        limits = 5
        [[listener]]
        tcp = "echo=7"
        unix = ""
        "a\\nb\\u001b" = 5
        [[listener]]
        """
    address = "give it one address: tcp, udp or unix, as in tcp = '127.0.0.1:7'"
    keys = (
        "there are service, tcp, udp, unix, mode, backlog, reuse_address, reuse_port, "
        "socket_options, settings, fault, limits, access, proxy_protocol, tls"
    )
    assert mistakes(text) == [
        "shutdown_timeout: '5': a number of seconds, more than 0 and at most 1000000000",
        "log_rate: -1: a whole number from 0 to 1000000000",
        "status.address: 'status:8423:1': an IPv6 address is written in brackets, as in [::1]:7",
        "status.unix_mode: 660: permissions in octal, as in '0660' or 0o660",
        "status.hosts[0]: 'a b': a host name, as in 'status.example.org'",
        "status.hosts[1]: 5: a text, in quotes",
        "status.token: there is no such key; did you mean token_file?",
        "lograte: there is no such key; did you mean log_rate?",
        "statuses: there is no such key; did you mean status?",
        "listener[0].tcp: '65536': a port is a number from 0 to 65535",
        "listener[0].backlog: '1000': a whole number from 0 to 2147483647",
        "listener[0].reuse_address: 1: true or false, without quotes",
        "listener[0].reuse_port: 'yes': true or false, without quotes",
        "listener[0].socket_options.SO_RCVBUF: '1048576': a whole number, without quotes",
        "listener[0].socket_options.TCP_NODELY: TCP_NODELY is not a socket option that linux or "
        "Python knows; did you mean TCP_NODELAY?",
        "listener[0].socket_options.TCP_CONGESTION: 4: a text, in quotes",
        "listener[0].socket_options.SO_SNDBUF: true: a whole number, or a text where the option "
        "takes one",
        "listener[0].limits.max_connections: true: a whole number from 1 to 1000000000, or 'auto'",
        "listener[0].limits.overload: 'drop': one of 'pause', 'close', 'reset'",
        "listener[0].limits.per_source: 99999999999999999999: a whole number from 1 to 1000000000",
        "listener[0].limits.connection_rate: a list: a rate is a number, or a text like '50:100'",
        "listener[0].limits.refuse_source_ports: true: write ports as '0-1023,2049', or 'none'",
        "listener[0].limits.idle_timeout: -60: a number of seconds, more than 0 and at most "
        "1000000000",
        "listener[0].limits.only_from: there is no such key here; it belongs in [listener.access]",
        "listener[0].limits.per_sourc: there is no such key; did you mean per_source?",
        "listener[0].access.only_from[0]: 127.0.0.1/8 has host bits set; write a network as "
        "192.0.2.0/24 or 2001:db8::/32",
        "listener[0].access.only_from[1]: 5: a text, in quotes",
        "listener[0].access.no_access: '10.0.0.0/8': a list of networks, as in ['10.0.0.0/8']",
        "listener[0].mode: only the file of a unix socket has one",
        "listener[0].service: there is no service 'ecko'; there are accept, agent, chargen, "
        "daytime, discard, echo, forward, greet, info, moody, qotd, time; did you mean echo?",
        "listener[1].settings: the service 'echo' has no settings",
        "listener[2].limits: 5: a table, as in { key = value }",
        "listener[3].tcp: 'echo=7': write service = 'echo' and the address alone",
        "listener[3].unix: '': a unix socket needs a path, as in /run/netsrv/echo.sock",
        rf"listener[3].'a\nb\x1b': there is no such key; {keys}",
        f"listener[3]: {address}",
        f"listener[4]: {address}",
        "listener[2].udp: 127.0.0.1:7: duplicate listener, first in netsrv.toml: listener[1]",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("listener = 5", "listener: 5: each listener begins with [[listener]]"),
        ("[listener]\ntcp = 7", "listener: a table: each listener begins with [[listener]]"),
        ("listener = [5]", "listener: a list: each listener begins with [[listener]]"),
        ("[[listener]]\nunix = 'x'\nmode = 660", "listener[0].mode: 660: permissions in octal, as"),
        ("[[listener]]\nunix = 'x'\nmode = '0999'", "listener[0].mode: '0999': permissions in"),
        ("[[listener]]\nunix = 'x'\nmode = true", "listener[0].mode: true: permissions in octal"),
        ("[[listener]]\ntcp = 7.5", "listener[0].tcp: 7.5: an address, as in '127.0.0.1:7'"),
        ("[[listener]]\ntcp = '::1:7'", "listener[0].tcp: '::1:7': an IPv6 address is written"),
        (
            "[[listener]]\nudp = 7\nservice = 'accept'",
            "listener[0].service: 'accept' is not served",
        ),
        ("[[listener]]\nudp = 7\nservice = 5", "listener[0].service: 5: a text, in quotes"),
        ("log_rate = 2024-02-03", "log_rate: 2024-02-03: a whole number from 0 to"),
        ("log_rate = 1.0", "log_rate: 1.0: a whole number from 0 to"),
        ("shutdown_timeout = nan", "shutdown_timeout: nan: a number of seconds"),
        ("shutdown_timeout = inf", "shutdown_timeout: inf: a number of seconds"),
        (limit("connection_rate", "0"), "listener[0].limits.connection_rate: '0': a rate is more"),
        (limit("write_timeout", "'never'"), "listener[0].limits.write_timeout: 'never': a number"),
        ("x" * 5000 + " = 1", f"'{'x' * 59}...: there is no such key; there are listener"),
        ("log_rate = '" + "x" * 5000 + "'", f"log_rate: '{'x' * 59}...: a whole number"),
    ],
)
def test_f99_a_mistake_is_a_line(text, line, mistakes):
    """F99: each kind of mistake is one line, and no line is long."""
    [message] = mistakes(text)
    assert message.startswith(line)
    assert len(message) <= 600


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = [", "Invalid value (at end of document)"),
        ("a = 1\nb = = 2", "Invalid value (at line 2, column 5)"),
        ("a = 1\na = 2\n", "Cannot overwrite a value (at line 2, column 6)"),
        ("a = " + "[" * 5000, "too many brackets within each other"),
        ("a = " + "9" * 5000, "a number has too many digits"),
    ],
)
def test_f99_what_is_no_toml(text, line, mistakes):
    """F99: a syntax error is one line with its position."""
    assert mistakes(text) == [line]


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({}, [".word: is missing"]),
        ({"word": 1}, [".word: 1: a text, in quotes"]),
        (
            {"word": "x", "times": "2", "loud": 1, "names": "abc", "inner": {"ratio": "1"}},
            [
                ".times: '2': a whole number, without quotes",
                ".loud: 1: true or false, without quotes",
                ".names: 'abc': a list, as in [1, 2]",
                ".inner.ratio: '1': a number, without quotes",
            ],
        ),
        (
            {"word": "x", "times": 3, "level": 0, "wrod": "y", "names": []},
            [
                ".times: 3: an even number, for x",
                ".level: 'level' must be >= 1: 0",
                ".wrod: there is no such key; did you mean word?",
            ],
        ),
        ({"word": "x", "names": ["a", 1]}, [".names[1]: 1: a text, in quotes"]),
        ({"word": "x", "inner": 5}, [".inner: 5: a table, as in { key = value }"]),
        (5, [": 5: a table, as in { key = value }"]),
    ],
)
def test_a_services_settings_are_checked_by_its_own_class(settings, lines, mistakes):
    """Types and validators of the class apply, and their errors name the key."""
    text = f"[[listener]]\nservice = 'greet'\ntcp = 7\nsettings = {toml(settings)}"
    assert mistakes(text) == [f"listener[0].settings{line}" for line in lines]


@pytest.mark.parametrize(
    ("word", "line"), [("key", ": KeyError: word"), ("exit", ": SystemExit: no luck today")]
)
def test_settings_that_raise_unexpected_exceptions(word, line, mistakes):
    """Any exception of a third party's class is one line."""
    text = f"[[listener]]\nservice = 'moody'\ntcp = 7\nsettings.word = '{word}'"
    assert mistakes(text) == [f"listener[0].settings{line}"]


def test_f107_a_bad_file_of_quotes_is_named_with_its_place(mistakes, tmp_path):
    """F107: an error in a file that the settings name has the location of its key."""
    path = tmp_path / "quotes"
    text = f"[[listener]]\nservice = 'qotd'\ntcp = 7\nsettings.file = '{path}'"
    assert mistakes(text) == [f"listener[0].settings.file: {path}: No such file or directory"]
    path.write_text("fine\n%\n" + "x" * 510)
    words = "line 3: a quote of 510 characters, at most 509"
    assert mistakes(text) == [f"listener[0].settings.file: {path}: {words}"]


# Any document


def toml(value):
    """Write a value in TOML, tables in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime.date) else repr(value)


words = st.sampled_from(
    ["none", "auto", "same", "7", "echo", "greet", "qotd", "50:100", "0660", "10.0.0.0/8", "1:0"]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
scalars = (
    st.none().map(lambda _: True)
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | words
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | texts, inner, max_size=3),
    max_leaves=5,
)


def tables(names, **inner):
    """Make a strategy of tables with these keys and, at times, right values."""
    keys = {name: inner.get(name, values) for name in names}
    return st.fixed_dictionaries({}, optional={**keys, "other": values})


def names_in(table):
    """Return the names of the settings in a table of a listener."""
    return [
        setting.name for setting in LISTENER_SETTINGS.values() if setting.section.table == table
    ]


def names_of(settings_class):
    """Return the names of a service's own settings."""
    return [field.name for field in attrs.fields(settings_class)]


networks = st.lists(words)
listeners = tables(
    LISTENER_KEYS,
    limits=values | tables(names_in("limits")),
    access=values | tables(names_in("access"), only_from=networks, no_access=networks),
    proxy_protocol=values | tables(names_in("proxy_protocol"), **{"from": networks}),
    tls=values | tables(names_in("tls"), certificate=words),
    settings=values | tables(names_of(GreetSettings)) | tables(names_of(QotdSettings)),
)
documents = tables(
    ["listener", "status", *SERVER_SETTINGS],
    listener=values | st.lists(listeners, max_size=3),
    status=values | tables(TABLE_SETTINGS),
)


def lines_or_configuration(data, registry, folder):
    """Read any bytes; an error has only printable lines."""
    path = folder / "netsrv.toml"
    path.write_bytes(data)
    lines: tuple[str, ...] | None = None
    try:
        read_configuration(str(path), registry, "netsrv.toml")
    except ConfigurationError as error:
        lines = error.lines
    assert lines is None or lines
    for line in lines or ():
        assert line.startswith("netsrv.toml: ")
        assert line.isprintable()


@given(document=documents)
def test_f99_any_tables_are_read_or_refused(document, registry, tmp_path_factory):
    """F99: any values at the known keys give a configuration or error lines."""
    text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
    lines_or_configuration(text.encode(), registry, tmp_path_factory.getbasetemp())


@given(data=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_f99_any_bytes_are_read_or_refused(data, registry, tmp_path_factory):
    """F99: any file gives a configuration or error lines."""
    lines_or_configuration(data, registry, tmp_path_factory.getbasetemp())


def test_generated_documents_are_toml():
    """The generated tables are read back unchanged, so the tests above try them."""
    value = {"a b": [1, -1.5, True, "ä\n"], "c": {"d": datetime.date(2024, 2, 29)}}
    assert parse_toml(f"x = {toml(value)}", "f") == {"x": value}
