"""``twistd netsrv``: the options, and the service made from them.

The sockets are opened while the options are parsed: then an error is one line at
once, and ports below 1024 are open before twistd gives root up.
"""

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

from twisted.logger import Logger
from twisted.python import usage

from netsrv import __version__
from netsrv.cli.check import check, list_services
from netsrv.cli.signals import install_signal_handlers
from netsrv.config.model import (
    Configuration,
    ConfigurationError,
    from_command_line,
    limits_from_command_line,
)
from netsrv.registry import Registry, find_services
from netsrv.server.prepare import Prepared, prepare
from netsrv.server.server import Server
from netsrv.sockets.addresses import printable
from netsrv.sockets.steps import SocketError

T = TypeVar("T")

STANDARD_ERROR = 2

EXAMPLES = """\
Examples:
  --tcp 51423                        accept connections, log each peer and close
  --tcp echo=51423 --udp same        echo on TCP and, on the same port, on UDP
  --tcp chargen=[::1]:1919           characters without end, on IPv6 loopback
  --unix echo=/run/netsrv/echo.sock  echo on a unix socket
  --config netsrv.toml               serve what a file asks for
  --tcp 51423 --check                show each option asked for and in effect
  --list-services                    show what can be served
"""


class ServerOptions(usage.Options):
    """The options of ``twistd netsrv`` and ``netsrv serve``, as the user writes them."""

    log = Logger()
    synopsis = "[options]"
    longdesc = (
        "Serves TCP and UDP. ADDRESS is PORT, HOST:PORT or [IPV6]:PORT, where port 0 lets the "
        "kernel choose and port 'same' is that of the first --tcp."
    )
    optFlags = [
        ["reuse-port", None, "set SO_REUSEPORT: other processes may share the port"],
        ["access-log-datagrams", None, "write a line for each datagram too"],
        ["check", None, "open every socket, print each option asked for and in effect, and exit"],
        ["list-services", None, "print the services that are installed, and exit"],
    ]
    optParameters = [
        ["backlog", None, "1024", "connections that may wait to be accepted"],
        ["max-connections", None, None, "connections at once, per listener [default: auto]"],
        ["overload", None, None, "at a limit: pause, close or reset newcomers [default: pause]"],
        ["per-source", None, None, "connections at once from an IPv4 address or an IPv6 /64"],
        ["connection-rate", None, None, "new connections a second: RATE or RATE:BURST"],
        ["only-from", None, None, "networks that may come in, with commas between"],
        ["no-access", None, None, "networks that may not, with commas between"],
        [
            "datagram-rate",
            None,
            None,
            "datagrams a second served per source: RATE or RATE:BURST, or none [default: 1000]",
        ],
        [
            "refuse-source-ports",
            None,
            None,
            "UDP source ports that are not served, or none [default: 0-1023,2049]",
        ],
        ["idle-timeout", None, None, "seconds until a connection ends on which nothing moves"],
        ["lifetime", None, None, "seconds until a connection ends, whatever happens on it"],
        [
            "write-timeout",
            None,
            None,
            "seconds until output that is stuck aborts a connection, or none [default: 60]",
        ],
        ["close-grace", None, None, "seconds that a peer may take at the end [default: 5]"],
        [
            "shutdown-timeout",
            None,
            None,
            "seconds that live connections have at the end [default: 8]",
        ],
        ["log-rate", None, None, "lines a second about single peers in the log [default: 1000]"],
        ["access-log", None, None, "file for a line of JSON per connection; - is standard output"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[tuple[str, str]] = []
        self.socket_options: list[str] = []
        self.reuse_address: bool | None = None
        self.config: tuple[str, str] | None = None
        """The configuration file as the user wrote it, and its absolute path."""

    def opt_tcp(self, address: str) -> None:
        """serve TCP: [SERVICE=]ADDRESS, 'accept' if no SERVICE is given; repeatable"""
        self.listeners.append(("tcp", address))

    opt_t = opt_tcp

    def opt_udp(self, address: str) -> None:
        """serve UDP: [SERVICE=]ADDRESS, 'echo' if no SERVICE is given; repeatable"""
        self.listeners.append(("udp", address))

    opt_u = opt_udp

    def opt_unix(self, path: str) -> None:
        """serve a unix socket: [SERVICE=]PATH, 'accept' if no SERVICE is given; repeatable"""
        self.listeners.append(("unix", path))

    def opt_config(self, path: str) -> None:
        """a TOML file with listeners and limits"""
        if not path:
            raise usage.UsageError("--config needs the path of a file")
        self.config = (path, os.path.abspath(path))  # twistd may go elsewhere before a reload

    opt_c = opt_config

    def opt_socket_option(self, option: str) -> None:
        """set a socket option: NAME=VALUE, as in SO_RCVBUF=1048576; repeatable"""
        self.socket_options.append(option)

    def opt_reuse_address(self) -> None:
        """set SO_REUSEADDR; the default for TCP"""
        self.reuse_address = True

    def opt_no_reuse_address(self) -> None:
        """leave SO_REUSEADDR off; the default for UDP"""
        self.reuse_address = False

    def opt_version(self) -> None:
        """print the version of netsrv, and exit"""
        print(f"netsrv {__version__}")
        raise SystemExit(0)

    def getUsage(self, width: int | None = None) -> str:
        return f"{super().getUsage(width)}\n{EXAMPLES}"

    def postOptions(self) -> None:
        if self["list-services"]:
            self._print(list_services)
        if not self.listeners and self.config is None:
            raise usage.UsageError(
                "nothing to serve: give at least one of --tcp, --udp and --unix, as in --tcp 51423"
            )

    def configuration(self, registry: Registry | None = None) -> Configuration:
        """Make the configuration of file and command line; *registry* has the services.

        Whenever it is called, the file is read again.  Raises `ConfigurationError`.
        """
        file = Configuration(())
        if self.config is not None:
            from netsrv.config.toml import read_configuration

            name, path = self.config
            file = read_configuration(path, registry or find_services(), name)
            if not file.listeners and not self.listeners:
                raise ConfigurationError(
                    f"{name}: nothing to serve: it has no [[listener]], and there is no --tcp, "
                    "--udp or --unix"
                )
        return from_command_line(
            self.listeners,
            backlog=self["backlog"],
            reuse_address=self.reuse_address,
            reuse_port=bool(self["reuse-port"]),
            socket_options=self.socket_options,
            log_rate=self["log-rate"],
            shutdown_timeout=self["shutdown-timeout"],
            access_log=self["access-log"],
            access_log_datagrams=bool(self["access-log-datagrams"]),
            limits=limits_from_command_line(self),
            file=file,
        )

    def prepare(self) -> tuple[Configuration, Prepared]:
        """Open every socket; with --check, print how it went and exit instead.

        Raises `ConfigurationError` or `SocketError`.
        """
        reserve_stdio()
        registry = find_services() if self.config or self["check"] else None
        configuration = self.configuration(registry)
        if self["check"]:
            self._print(partial(check, configuration), registry)
        return configuration, prepare(configuration, registry)

    def install_signals(self, reactor: Any, server: Server) -> None:
        """Have signals end the server and, with a file, have SIGHUP read it again."""
        reload = None if self.config is None else partial(self._reload, server)
        install_signal_handlers(reactor, server, reload)

    def _reload(self, server: Server) -> None:
        """Serve what the file says by now; a bad one changes nothing, and is named."""
        try:
            registry = find_services()
            server.reload(self.configuration(registry), registry)
        except (ConfigurationError, SocketError, OSError) as error:
            for line in format_errors(error):
                self.log.error("{line}", line=line)
            self.log.error("Nothing is changed: the configuration is as before")

    def _print(
        self, lines: Callable[[Registry], Iterator[str]], registry: Registry | None = None
    ) -> NoReturn:
        """Print lines that are made from the services there are, and exit."""
        registry = registry or find_services()
        for problem in registry.problems:
            print(f"netsrv: {problem}", file=sys.stderr)
        print("\n".join(lines(registry)))
        raise SystemExit(0)


class Options(ServerOptions):
    """The options within ``twistd`` and ``twist``, which know only status 1 for an error."""

    prepared: tuple[Configuration, Prepared]

    def postOptions(self) -> None:
        super().postOptions()
        self.prepared = exit_on_error(self.prepare)
        atexit.register(self.prepared[1].close)  # twistd may yet refuse to start
        install_reactor()


def reserve_stdio() -> None:
    """Leave 0, 1 and 2 to standard input and output: a daemon puts /dev/null there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)


def makeService(options: Options) -> Server:
    """Make the service; twistd has installed its reactor by now."""
    reactor = exit_on_error(_import_reactor)
    server = Server(reactor, *options.prepared)
    options.install_signals(reactor, server)
    return server


def install_reactor() -> None:
    """Install our reactor, unless the user has chosen one or uvloop cannot be imported."""
    if "twisted.internet.reactor" not in sys.modules:
        with suppress(ImportError):
            from netsrv.uvreactor import install

            install()


def _import_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def exit_on_error(step: Callable[[], T]) -> T:
    """Take a step of the start; what the user did wrong becomes one line and an exit."""
    try:
        return step()
    except (ConfigurationError, SocketError, OSError) as error:
        raise SystemExit(error_text_of(error)) from None


def error_text_of(error: Exception) -> str:
    """Make of an error what the user sees: one line, or one for each mistake."""
    return "\n".join(f"netsrv: {line}" for line in format_errors(error))


def format_errors(error: Exception) -> list[str]:
    """Give the lines about an error, escaped."""
    lines = error.lines if isinstance(error, ConfigurationError) else [str(error)]
    return [printable(line) for line in lines]
