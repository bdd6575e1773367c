"""The keyword arguments with which a program describes a listener."""

import subprocess
import sys

import pytest
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Site

from netsrv.config.keywords import ListenerKeywords
from netsrv.config.model import LISTENER_SETTINGS, Configuration, ConfigurationError
from netsrv.config.toml import read_configuration
from netsrv.guards.limits import Limits
from netsrv.registry import find_services
from netsrv.server import listener

VALUES = {
    "": True,
    "FILE": "/etc/ssl/cert.pem",
    "LIST": "0-1023",
    "N": 7,
    "NAME=VALUE": {"SO_RCVBUF": 65536, "TCP_CONGESTION": "reno"},
    "NETS": ["10.0.0.0/8", "2001:db8::/32"],
    "RATE[:BURST]": "50:100",
    "S": 2.5,
    "TYPE[:KEY=VALUE,...]": [{"type": "latency", "latency": 200, "first": 3}],
}
"""A value of each kind, by the placeholder of the kind; one without is a flag."""

TEXTS = {
    "alpn": ["h2", "http/1.1"],
    "ciphers": "ECDHE+AESGCM",
    "ciphersuites": "TLS_AES_128_GCM_SHA256",
    "groups": "X25519",
    "header_timeout": 3.5,
    "max_length": 600,
    "unspec": "reject",
    "other_transport": "accept",
    "session_tickets": False,
}
"""Values of the settings whose kind does not tell a value that is not the default."""


def value_of(setting):
    """Return a value that is not the default."""
    kind = setting.kind
    if setting.name in TEXTS:
        return TEXTS[setting.name]
    return kind.choices[-1] if kind.choices else VALUES[kind.metavar.partition("|")[0]]


EVERYTHING = {
    name: value_of(setting)
    for name, setting in LISTENER_SETTINGS.items()
    if setting.key and name not in ("mode", "settings")
}
"""A value for each key of a file, except those for one transport or one service only."""


class Embedded(DatagramProtocol):
    """A protocol of the program."""


def mistakes_of(*arguments, **keywords):
    """Return the lines of the error that a call of `listener` raises."""
    with pytest.raises(ConfigurationError) as caught:
        listener(*arguments, **keywords)
    return str(caught.value).splitlines()


def toml(value):
    """Write a value as TOML does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


def test_a_program_and_a_file_say_the_same(tmp_path):
    """The same keys and values give equal settings, and each one has an effect."""
    lines = ["[[listener]]", "service = 'echo'", "tcp = '127.0.0.1:7'"]
    for table in ("", "limits", "access", "proxy_protocol", "tls"):
        lines += [f"[listener.{table}]"] if table else []
        names = [name for name in EVERYTHING if LISTENER_SETTINGS[name].section.table == table]
        lines += [f"{LISTENER_SETTINGS[name].name} = {toml(EVERYTHING[name])}" for name in names]
    (tmp_path / "f").write_text("\n".join(lines))
    from_file = read_configuration(f"{tmp_path}/f", find_services())
    settings = listener("tcp", "127.0.0.1:7", "echo", **EVERYTHING)
    assert (settings,) == from_file.listeners
    for name, setting in LISTENER_SETTINGS.items():
        holders = {"": settings, "proxy_protocol": settings.proxy_protocol, "tls": settings.tls}
        holder = holders.get(setting.section.table, settings.limits)
        assert (getattr(holder, setting.attribute) != setting.default) == (name in EVERYTHING), name


def test_every_setting_is_a_typed_keyword():
    """The types of all settings are known to mypy."""
    assert set(ListenerKeywords.__annotations__) == set(LISTENER_SETTINGS)


def test_the_address_is_a_files_address():
    """A number, a host and a port, or a path."""
    assert str(listener("tcp", 7, "echo").address) == "0.0.0.0:7"
    assert str(listener("udp", "[::1]:same", "echo").address) == "[::1]:same"
    unix = listener("unix", "/run/s", "echo", mode="0660")
    assert (str(unix.address), unix.mode) == ("/run/s", 0o660)


@pytest.mark.parametrize(
    ("service", "keywords", "name"),
    [
        ("echo", {}, "echo"),
        (Site(Resource()), {}, "Site"),
        (Factory.forProtocol(Protocol), {}, "Protocol"),
        (Site(Resource()), {"name": "shop"}, "shop"),
    ],
)
def test_the_log_has_a_name_for_every_service(service, keywords, name):
    """It is that of the class, of the protocol, or the one given."""
    assert listener("tcp", 0, service, **keywords).service_name == name


def test_all_mistakes_are_named_at_once():
    """Each has a line with the keyword, the value and the form that it should have."""
    place = "listener('tcp', '127.0.0.1:0'): "
    assert mistakes_of(
        "tcp",
        "127.0.0.1:0",
        "echo",
        max_connections=0,
        idle_timeout="soon",
        only_from="10.0.0.0/8",
        socket_options={"SO_NONSENSE": 1},
        mode="0600",
        max_conections=5,
    ) == [
        f"{place}max_conections: there is no such keyword; did you mean max_connections?",
        f"{place}socket_options: SO_NONSENSE is not a socket option that linux or Python knows",
        f"{place}max_connections: 0: a whole number from 1 to 1000000000, or 'auto'",
        f"{place}idle_timeout: 'soon': a number of seconds, more than 0 and at most 1000000000",
        f"{place}only_from: '10.0.0.0/8': a list of networks, as in ['10.0.0.0/8']",
        f"{place}mode: only the file of a unix socket has one",
    ]


@pytest.mark.parametrize(
    ("arguments", "keywords", "mistake"),
    [
        (("sctp", 7, "echo"), {}, "'sctp': one of 'tcp', 'udp', 'unix'"),
        (("tcp", "nowhere", "echo"), {}, "address: 'nowhere' has no port number"),
        (("tcp", 7, "echo"), {"name": 5}, "name: 5: a text"),
        (("tcp", 7, "echo"), {"unix": "x"}, "unix: there is no such keyword; there are mode,"),
        (("tcp", 7, "echo"), {"limits": {}}, "limits: there is no such keyword; there are mode,"),
        (("tcp", 7, "echo"), {"socket_options": ["x"]}, "socket_options: a list: options by"),
        (("tcp", 7, Site), {}, "service: <class 'twisted.web.server.Site'>: TypeError: "),
        (("tcp", 7, Embedded()), {}, "is no Factory"),
        (("udp", 7, Site(Resource())), {}, "is no DatagramProtocol"),
        (("tcp", 7, Embedded), {}, "is no Factory"),
        (
            ("udp", 7, Factory),
            {},
            "service: <class 'twisted.internet.protocol.Factory'> is no Data",
        ),
        (("udp", 7, Embedded()), {"settings": 5}, "settings: only a service that has a name"),
        (("udp", 7, "echo"), {"safe_replies": True}, "safe_replies: only for a DatagramProtocol"),
    ],
)
def test_a_mistake_is_one_line(arguments, keywords, mistake):
    """The line has the keyword and the form that its value should have."""
    [line] = mistakes_of(*arguments, **keywords)
    assert mistake in line


def test_cattrs_and_tomllib_are_not_imported():
    """A program that embeds a server does not pay for reading files."""
    code = "import netsrv.server.server, sys; print({'cattrs', 'tomllib'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_server_without_faults_imports_none():
    """Nor does its status, which shows the faults of each listener."""
    code = (
        "import sys; from netsrv.testing import MemoryServer; server = MemoryServer('echo'); "
        "server.server.info(); server.server.status.read_snapshot(); "
        "print([name for name in sys.modules if name.startswith('netsrv.server.faulting')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Line(Protocol):
    """A protocol for streams."""


class Lines(Factory):
    """A factory."""

    protocol = Line


@pytest.mark.parametrize(
    ("transport", "given", "kind", "name"),
    [
        ("tcp", Line, Factory, "Line"),
        ("unix", Lines, Lines, "Lines"),
        ("udp", Embedded, Embedded, "Embedded"),
    ],
)
def test_a_class_is_a_service(transport, given, kind, name):
    """A class of protocols gets a factory; one of factories or datagram protocols is called."""
    settings = listener(transport, "7", given)
    assert type(settings.service) is kind
    assert settings.service_name == name
    if given is Line:
        assert settings.service.protocol is Line


def test_a_repr_has_what_differs_from_the_defaults():
    """Ports are shown as ranges, and settings without a value of their own are left out."""
    ports = "refuse_source_ports='0-1023,7777'"
    settings = listener("udp", 7, "echo", refuse_source_ports="0-1023,7777", backlog=5)
    assert repr(settings) == (
        "ListenerSettings(transport='udp', service='echo', address=InternetAddress(host='', "
        f"port=7), backlog=5, limits=Limits({ports}), config_location=\"listener('udp', 7)\")"
    )
    assert repr(Limits(refuse_source_ports=frozenset({9, *range(5)}))) == (
        "Limits(refuse_source_ports='0-4,9')"
    )
    assert repr(Configuration((), log_rate=5)) == "Configuration(listeners=(), log_rate=5)"
