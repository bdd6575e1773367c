"""``twistd netsrv``: the options, and the service made from them.

The sockets are opened while the options are parsed: so an error at the start is one line,
and ports below 1024 are open before twistd gives up root.
"""

import atexit
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

from twisted.python import usage

from netsrv import __version__
from netsrv.cli.check import check, list_services
from netsrv.cli.reloading import Reloader, format_errors
from netsrv.cli.signals import install_signal_handlers
from netsrv.config.command_line import OPTIONS, from_command_line
from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings
from netsrv.registry import Registry, find_services
from netsrv.server.prepare import Prepared, prepare
from netsrv.server.reload import CheckedConfiguration, check_configuration
from netsrv.server.server import Server
from netsrv.settings import Setting
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


def _add_settings(options: type["ServerOptions"]) -> type["ServerOptions"]:
    """Add a method to a class of options for each setting of the command line."""
    for setting in OPTIONS.values():
        for option, method in _option_methods(setting):
            setattr(options, f"opt_{option.removeprefix('--').replace('-', '_')}", method)
    return options


def _option_methods(setting: Setting) -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield a setting's options, each with its handler for `twisted.python.usage`."""

    def set_flag(options: "ServerOptions") -> None:
        options.arguments[setting.name] = True

    def clear_flag(options: "ServerOptions") -> None:
        options.arguments[setting.name] = False

    def set_value(options: "ServerOptions", text: str) -> None:
        options.arguments[setting.name] = text

    def add_value(options: "ServerOptions", text: str) -> None:
        options.arguments.setdefault(setting.name, []).append(text)

    default = f" [default: {setting.default_text}]"
    option, metavar = str(setting.option), setting.kind.metavar
    method = add_value if setting.kind.repeatable else set_value if metavar else set_flag
    method.__doc__ = f"{metavar}: {setting.help}{default}" if metavar else setting.help
    yield option, method
    if setting.negation:
        method.__doc__ = f"{setting.help}{default}"
        clear_flag.__doc__ = f"do not {setting.help}"
        yield setting.negation, clear_flag


@_add_settings
class ServerOptions(usage.Options):
    """The options of ``twistd netsrv`` and ``netsrv serve``, as the user writes them."""

    synopsis = "[options]"
    longdesc = (
        "Serves TCP and UDP. ADDRESS is PORT, HOST:PORT or [IPV6]:PORT, where port 0 lets the "
        "kernel choose and port 'same' is that of the first --tcp."
    )
    optFlags = [
        ["check", None, "open every socket, print each option asked for and in effect, and exit"],
        ["list-services", None, "print the services that are installed, and exit"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[tuple[str, str]] = []
        """Pairs of a transport and ``[SERVICE=]ADDRESS``."""
        self.arguments: dict[str, Any] = {}
        """The arguments of the other options, by the names of the settings."""
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
        """take listeners and limits from a TOML file"""
        if not path:
            raise usage.UsageError("--config needs the path of a file")
        self.config = (path, os.path.abspath(path))  # twistd may go elsewhere before a reload

    opt_c = opt_config

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
        """Return the configuration of file and command line; *registry* has the services.

        Every call reads the file again.  Raises `ConfigurationError`.
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
        return from_command_line(self.listeners, self.arguments, file)

    def prepare(self) -> tuple[Configuration, Prepared]:
        """Open every socket; with --check, print the result and exit instead.

        Raises `ConfigurationError` or `SocketError`.
        """
        reserve_stdio()
        registry = find_services() if self.config or self["check"] else None
        configuration = self.configuration(registry)
        if self["check"]:
            self._print(partial(check, configuration), registry)
        return configuration, prepare(configuration, registry)

    def install_signals(self, reactor: Any, server: Server) -> None:
        """Make signals stop the server and, with a file, make SIGHUP reload it."""
        reload = None
        if self.config is not None:
            reload = Reloader(reactor, server, self._read_again).reload
        install_signal_handlers(reactor, server, reload)

    def _read_again(self, running: Sequence[ListenerSettings]) -> CheckedConfiguration:
        """Read the configuration for a server that runs with the settings *running*."""
        registry = find_services()
        return check_configuration(self.configuration(registry), running, registry)

    def _print(
        self, lines: Callable[[Registry], Iterator[str]], registry: Registry | None = None
    ) -> NoReturn:
        """Print the lines that *lines* yields for the installed services, and exit."""
        registry = registry or find_services()
        for problem in registry.problems:
            print(f"netsrv: {problem}", file=sys.stderr)
        print("\n".join(map(printable, lines(registry))))
        raise SystemExit(0)


class Options(ServerOptions):
    """The options within ``twistd`` and ``twist``, where every error has the exit status 1."""

    prepared: tuple[Configuration, Prepared]

    def postOptions(self) -> None:
        super().postOptions()
        self.prepared = exit_on_error(self.prepare)
        atexit.register(self.prepared[1].close)  # twistd may still fail to start
        install_reactor()


def reserve_stdio() -> None:
    """Open descriptors 0 to 2 if they are closed: a daemon replaces them by /dev/null."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)


def makeService(options: Options) -> Server:
    """Make the service; twistd has installed its reactor already."""
    reactor = exit_on_error(_import_reactor)
    server = Server(reactor, *options.prepared)
    options.install_signals(reactor, server)
    return server


def install_reactor() -> None:
    """Install the uvloop reactor, unless there is a reactor or uvloop cannot be imported."""
    if "twisted.internet.reactor" not in sys.modules:
        with suppress(ImportError):
            from netsrv.uvreactor import install

            install()


def _import_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def exit_on_error(step: Callable[[], T]) -> T:
    """Run a step of the start; turn an error of the user into one line and exit status 1."""
    try:
        return step()
    except (ConfigurationError, SocketError, OSError) as error:
        raise SystemExit(error_text_of(error)) from None


def error_text_of(error: BaseException) -> str:
    """Return the text of an error as it is printed: a line for each mistake."""
    return "\n".join(f"netsrv: {line}" for line in format_errors(error))
