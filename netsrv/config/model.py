"""The configuration of a server: frozen values, and the settings that a user may give.

Nothing here opens a socket or looks for a service: that is the server's work.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, ServerFactory

from netsrv.config.control import NO_CONTROL, ControlSettings
from netsrv.config.fault import Fault
from netsrv.config.faults import FAULTS
from netsrv.config.kinds import INTERNET, LOG_FILE, MODE, SOCKET_OPTIONS, UNIX
from netsrv.config.status import NO_STATUS, StatusSettings
from netsrv.guards.limits import NO_LIMITS, Limits
from netsrv.guards.proxies import NO_PROXY_PROTOCOL, ProxyProtocolSettings
from netsrv.settings import (
    ANYTHING,
    BOOLEAN,
    DELAY,
    MAX_TEXT_LENGTH,
    SECONDS,
    TEXT,
    Kind,
    Section,
    Setting,
    choice,
    exception_text,
    or_word,
    setting,
    settings_of,
    short_repr,
    shorten,
    whole_number,
)
from netsrv.sockets.addresses import Address, InheritedName, InternetAddress, printable
from netsrv.sockets.options import SocketOption, named_option
from netsrv.tls.settings import NO_TLS, TLSSettings

if TYPE_CHECKING:
    from netsrv.faults.fault import FaultSettings


class ConfigurationError(Exception):
    """A configuration cannot be used: one line for each error, with its location."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines

    def __str__(self) -> str:
        return "\n".join(map(printable, self.lines))


class Transport(StrEnum):
    """What a listener's socket speaks.  The values are what users write."""

    TCP = "tcp"
    UDP = "udp"
    UNIX = "unix"

    def __repr__(self) -> str:
        return repr(self.value)

    @property
    def is_stream(self) -> bool:
        """True if there are connections, False if there are datagrams."""
        return self is not Transport.UDP

    @property
    def takes_port(self) -> bool:
        """True if addresses have a port, False if they are paths."""
        return self is not Transport.UNIX

    @property
    def address_kind(self) -> Kind:
        """The kind of the transport's addresses."""
        return INTERNET if self.takes_port else UNIX

    @property
    def default_service(self) -> str:
        """The service of a listener that names none."""
        return "accept" if self.is_stream else "echo"


def _transport(value: str) -> Transport:
    return Transport(value)


class LogLevel(StrEnum):
    """The levels of lines of the log, the most severe first; the names are Twisted's."""

    CRITICAL = "critical"
    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"


class LogFormat(StrEnum):
    """The forms of the lines of the log."""

    TEXT = "text"
    JSON = "json"
    LOGFMT = "logfmt"


class WorkerSelection(StrEnum):
    """How the kernel gives the connections of a TCP listener to workers."""

    HASH = "hash"
    SOURCE = "source"
    CPU = "cpu"
    SHARED = "shared"


MAX_WORKERS = 256

SERVER = Section("The server")
LOGS = Section("Logs")
SERVICE = Section("The service")
SOCKET = Section("The socket")
FAULT = Section("Faults on purpose")


@frozen(repr=False)
class ListenerSettings:
    """One socket and the service on it."""

    transport: Transport = field(converter=_transport)
    service: Any
    """The name of an installed service; or a program's own: an IProtocolFactory, or a
    DatagramProtocol for UDP."""
    address: Address
    mode: int | None = setting(
        None,
        SOCKET,
        MODE,
        "give the file of a unix socket these permissions",
        details="The file has them from its first moment, whatever the umask is. Without them, the "
        "umask with which the command was started holds, or ``twistd --umask``.",
        default_text="what the umask leaves",
        option=None,
    )
    backlog: int = setting(
        1024,
        SOCKET,
        whole_number(0, 2**31 - 1),
        "let N connections wait in the kernel until they are accepted",
        details="Linux cuts the number to ``net.core.somaxconn``. UDP has no backlog.",
    )
    reuse_address: bool | None = setting(
        None, SOCKET, BOOLEAN, "set SO_REUSEADDR", default_text="on for TCP, off for UDP"
    )
    reuse_port: bool = setting(
        False, SOCKET, BOOLEAN, "set SO_REUSEPORT, so that other processes may share the port"
    )
    socket_options: tuple[SocketOption, ...] = setting(
        (),
        SOCKET,
        SOCKET_OPTIONS,
        "set a socket option, as in SO_RCVBUF=1048576; repeatable",
        default_text="TCP_NODELAY=1",
        option="--socket-option",
    )
    settings: Any = setting(None, SERVICE, ANYTHING, option=None, default_text="the service's own")
    """An instance of the service's own settings class; None for the defaults."""
    fault: tuple[Fault, ...] = setting(
        (),
        FAULT,
        FAULTS,
        "misbehave on purpose, as in latency:latency=200,jitter=50; repeatable",
        details="See :doc:`faults-on-purpose`.",
        default_text="none",
    )
    limits: Limits = NO_LIMITS
    proxy_protocol: ProxyProtocolSettings = NO_PROXY_PROTOCOL
    tls: TLSSettings = NO_TLS
    config_location: str = field(default="", eq=False)
    """Where the listener was configured: ``netsrv.toml: listener[0]``; empty for the command
    line."""
    name: str = setting("", SERVICE, TEXT, option=None, key=False)
    """The name of a program's own service in the log; empty for its class."""
    safe_replies: bool = setting(False, SERVICE, BOOLEAN, option=None, key=False)
    """True if a program's own DatagramProtocol is held to the rules for datagrams."""
    context_factory: Any = setting(None, SERVICE, ANYTHING, option=None, key=False)
    """A program's `twisted.internet.ssl.CertificateOptions`: TLS is then Twisted's."""

    __repr__ = short_repr

    @property
    def embedded(self) -> bool:
        """True if the service is an object of the program and not an installed one."""
        return not isinstance(self.service, str)

    @property
    def faults(self) -> tuple[FaultSettings, ...]:
        """The faults for such a transport."""
        found = (fault.settings(self.transport.is_stream) for fault in self.fault)
        return tuple(fault for fault in found if fault is not None)

    @property
    def service_name(self) -> str:
        """The service's name in the log.  A plain factory goes by its protocol's class."""
        if not self.embedded:
            return printable(str(self.service))
        kind = type(self.service)
        if kind in (Factory, ServerFactory) and isinstance(self.service.protocol, type):
            kind = self.service.protocol
        return printable(self.name or kind.__name__)

    @property
    def port(self) -> int | str | None:
        """The port as it was asked for, 0 or ``same`` too; None for a unix or inherited socket."""
        return self.address.port if isinstance(self.address, InternetAddress) else None

    @property
    def address_label(self) -> str:
        """The listener's name in messages: ``tcp 0.0.0.0:7``."""
        return f"{self.transport} {self.address}"

    @property
    def option_label(self) -> str:
        """What the user wrote, in messages: ``--tcp 0.0.0.0:7``."""
        if self.config_location:
            return f"{self.config_location}.{self.transport}: {self.address}"
        return f"--{self.transport} {self.address}"

    def all_options(self) -> list[SocketOption]:
        """Return the defaults for such a socket and the options asked for by name, in order."""
        options: dict[str, SocketOption] = {}
        for option in (*self._default_options(), *self.socket_options):
            options.pop(option.name, None)
            options[option.name] = option
        return list(options.values())

    def _default_options(self) -> list[SocketOption]:
        if not self.transport.takes_port:
            return []
        if isinstance(self.address, InheritedName):  # it is bound already
            return [named_option("TCP_NODELAY", 1)] if self.transport.is_stream else []
        is_tcp = self.transport.is_stream
        reuse = is_tcp if self.reuse_address is None else self.reuse_address
        options = [named_option("SO_REUSEADDR", int(reuse))]
        if self.reuse_port:
            options.append(named_option("SO_REUSEPORT", 1))
        if is_tcp:
            options.append(named_option("TCP_NODELAY", 1))
        if isinstance(self.address, InternetAddress) and self.address.host == "::":
            options.append(named_option("IPV6_V6ONLY", 0))
        return options


def service_object(transport: str, service: Any) -> IProtocolFactory | DatagramProtocol:
    """Return a program's own service, made from it if it is a class.

    A class of protocols gets a plain factory; any other class is called without arguments.
    Raises ValueError if *transport* does not take the service.
    """
    if not isinstance(service, type):
        return check_service_object(transport, service)
    if not Transport(transport).is_stream:
        fits = issubclass(service, DatagramProtocol)
    elif issubclass(service, Protocol):
        return Factory.forProtocol(service)
    else:
        fits = callable(getattr(service, "buildProtocol", None))
    try:
        return check_service_object(transport, service() if fits else service)
    except TypeError as error:
        raise ValueError(f"{_show(service)}: {exception_text(error)}; give an instance") from error


def check_service_object(transport: str, service: Any) -> IProtocolFactory | DatagramProtocol:
    """Return a program's own service.  Raises ValueError if *transport* does not take it."""
    if not Transport(transport).is_stream:
        if not isinstance(service, DatagramProtocol):
            raise ValueError(f"{_show(service)} is no DatagramProtocol")
    elif isinstance(service, type) or not callable(getattr(service, "buildProtocol", None)):
        raise ValueError(f"{_show(service)} is no Factory")
    return service  # type: ignore[no-any-return]


def _show(service: Any) -> str:
    return shorten(repr(service), MAX_TEXT_LENGTH)


@frozen(repr=False)
class Configuration:
    """All that a server is made of."""

    listeners: tuple[ListenerSettings, ...]
    shutdown_timeout: float = setting(
        8.0, SERVER, SECONDS, "wait S seconds for open connections at the end, then abort them"
    )
    shutdown_delay: float = setting(
        0.0,
        SERVER,
        DELAY,
        "go on serving for S seconds after the first signal, while /readyz says no",
        details="A load balancer has this time to send new peers elsewhere. Then the sockets are "
        "closed, and ``--shutdown-timeout`` begins.",
    )
    workers: int | None = setting(
        1,
        SERVER,
        or_word(whole_number(1, MAX_WORKERS), "auto"),
        "serve with N processes that share the sockets; auto is one for each core",
        details="See :doc:`workers`. With 1 there is one process; to change that needs a restart.",
    )
    worker_selection: WorkerSelection = setting(
        WorkerSelection.HASH,
        SERVER,
        choice(WorkerSelection),
        "choose the worker of a TCP connection by a hash of its addresses, by its source, by the "
        "CPU that received it, or let all workers take from one queue",
        details="Datagrams always go to a worker by their source. A change needs a restart.",
    )
    log_level: LogLevel = setting(
        LogLevel.INFO,
        LOGS,
        choice(LogLevel),
        "log lines of this level and of more severe ones",
        details="Lines about single peers are of level ``info``; at ``debug`` there is one when a "
        "connection ends, too. Under twistd and twist the level applies to lines about single "
        "peers only.",
    )
    quiet: bool = setting(
        False, LOGS, BOOLEAN, "log warnings and errors only, as with --log-level warn"
    )
    log_format: LogFormat = setting(
        LogFormat.TEXT,
        LOGS,
        choice(LogFormat),
        "write the log as text, as JSON or as logfmt",
        details="See `The log`_. It has no effect under twistd and twist, whose own options for "
        "the log apply.",
    )
    log_rate: int = setting(
        100,
        LOGS,
        whole_number(0, 10**9),
        "log at most N lines a second about single peers",
        details="The lines beyond are counted and summed up; with 0 there are no lines about "
        "single peers, and no sums of them. A line costs some 0.02 ms of CPU time, so with the "
        "default they take much less than 1 % of a core.",
    )
    access_log: str | None = setting(
        None,
        LOGS,
        LOG_FILE,
        "write a line of JSON for each connection to FILE; - is standard output",
        default_text="off",
    )
    access_log_datagrams: bool = setting(
        False, LOGS, BOOLEAN, "write a line for each datagram to the access log too"
    )
    status: StatusSettings = NO_STATUS
    control: ControlSettings = NO_CONTROL
    file: str | None = field(default=None, eq=False)
    """The absolute path of the configuration file; None if there is none."""

    @property
    def level(self) -> LogLevel:
        """The level of the log in effect."""
        below_warn = self.log_level in (LogLevel.INFO, LogLevel.DEBUG)
        return LogLevel.WARN if self.quiet and below_warn else self.log_level

    __repr__ = short_repr


NO_CONFIGURATION = Configuration(())

SERVER_SETTINGS = settings_of(Configuration)
"""The settings of the whole server, except those of `SERVER_TABLES`."""

SERVER_TABLES: dict[str, tuple[type, dict[str, Setting]]] = {
    name: (settings_class, {one.name: one for one in settings_of(settings_class).values()})
    for name, settings_class in (("status", StatusSettings), ("control", ControlSettings))
}
"""The tables at the top of a file: their classes, which are fields of `Configuration`, and their
settings."""

TABLE_SETTINGS = {
    setting.keyword: setting
    for _, settings in SERVER_TABLES.values()
    for setting in settings.values()
}
"""The settings of `SERVER_TABLES` by their keywords."""

LISTENER_SETTINGS = settings_of(ListenerSettings, Limits, ProxyProtocolSettings, TLSSettings)
"""The settings of a listener, those of its tables included."""
