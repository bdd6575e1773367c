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
from netsrv.cli.directory import StartDirectory
from netsrv.cli.log_stream import LogStream, replace_standard_streams
from netsrv.cli.printing import ExitStatus, print_error, print_report
from netsrv.cli.reloading import Reloader, format_errors, start_thread
from netsrv.cli.signals import hold_signals, install_signal_handlers
from netsrv.config.command_line import OPTIONS, from_command_line
from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings
from netsrv.files import standard_descriptor
from netsrv.registry import Registry, find_services
from netsrv.server.prepare import Prepared, prepare
from netsrv.server.reload import CheckedConfiguration, check_configuration
from netsrv.server.server import Server
from netsrv.settings import MAX_SHOWN_PATH, Setting, shorten
from netsrv.sockets.addresses import printable
from netsrv.sockets.steps import SocketError
from netsrv.sockets.unixfiles import file_mode

T = TypeVar("T")

STANDARD_DESCRIPTORS = (0, 1, 2)

ALL_PERMISSIONS = 0o777

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

    io_error: int = ExitStatus.IO_ERROR
    """The exit status if a report cannot be printed."""
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
        self.config: str | None = None
        """The configuration file as the user wrote it."""
        self._directory = StartDirectory()

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
        self.config = path

    opt_c = opt_config

    def opt_version(self) -> None:
        """print the version of netsrv, and exit"""
        print_report(f"netsrv {__version__}", self.io_error)

    def opt_help(self) -> None:
        """print this help, and exit"""
        print_report(str(self), self.io_error)

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

            registry = registry or find_services()
            with self._directory.entered():
                file = read_configuration(self.config, registry)
            if not file.listeners and not self.listeners:
                raise ConfigurationError(
                    f"{self.config}: nothing to serve: it has no [[listener]], and there is no "
                    "--tcp, --udp or --unix"
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
            reload = Reloader(
                reactor, server, self._read_again, self._start_reading, self._directory.entered
            ).reload
        install_signal_handlers(reactor, server, reload)

    def _read_again(self, running: Sequence[ListenerSettings]) -> CheckedConfiguration:
        """Read the configuration for a server that runs with the settings *running*."""
        with self._directory.entered():
            registry = find_services()
            return check_configuration(self.configuration(registry), running, registry)

    def _start_reading(self, read: Callable[[], None]) -> None:
        """Read in a thread, or at once if the directory of the start has to be entered for it.

        A process has one working directory, which no thread may change under the others.
        """
        if self._directory.is_left:
            read()
        else:
            start_thread(read)

    def _print(
        self, lines: Callable[[Registry], Iterator[str]], registry: Registry | None = None
    ) -> NoReturn:
        """Print the lines that *lines* yields for the installed services, and exit."""
        registry = registry or find_services()
        for problem in registry.problems:
            print_error(f"netsrv: {problem}")
        print_report("\n".join(map(printable, lines(registry))), self.io_error)


class Options(ServerOptions):
    """The options within ``twistd`` and ``twist``, where every error has the exit status 1."""

    io_error = 1
    prepared: tuple[Configuration, Prepared]

    def parseOptions(self, options: Any = None) -> None:
        hold_signals()
        super().parseOptions(options)

    def postOptions(self) -> None:
        super().postOptions()
        self._replace_streams()
        self.prepared = exit_on_error(self.prepare)
        atexit.register(self.prepared[1].close)  # twistd may still fail to start
        install_reactor()

    def prepare(self) -> tuple[Configuration, Prepared]:
        """Open every socket with the umask that twistd applies only later."""
        umask = self._launcher.get("umask")
        with file_mode(None if umask is None else ALL_PERMISSIONS & ~umask):
            return super().prepare()

    def configuration(self, registry: Registry | None = None) -> Configuration:
        configuration = super().configuration(registry)
        path = configuration.access_log
        if path is not None and self._is_daemon and standard_descriptor(path) is not None:
            raise ConfigurationError(
                f"access log {shorten(path, MAX_SHOWN_PATH)}: a daemon has no standard output; "
                "name a file, or start twistd with -n"
            )
        return configuration

    @property
    def _launcher(self) -> dict[str, Any]:
        """The options of twistd or twist; empty without either."""
        return getattr(self, "parent", None) or {}

    @property
    def _is_daemon(self) -> bool:
        """True if twistd is about to leave the terminal, or has left it."""
        launcher = self._launcher
        return not (launcher.get("nodaemon", True) or launcher.get("debug", False))

    def _replace_streams(self) -> None:
        """Keep the log of twistd or twist from blocking the server."""
        replace_standard_streams(reopen=not self._is_daemon)
        log_file = self._launcher.get("logFile")  # twist has opened it
        if log_file is not None:
            self._launcher["logFile"] = LogStream(log_file)


def reserve_stdio() -> None:
    """Open descriptors 0 to 2 if they are closed: a daemon replaces them by /dev/null."""
    for descriptor in STANDARD_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            _open_placeholder()


def _open_placeholder() -> None:
    """Take the lowest free descriptor; without a usable /dev/null, for the root directory."""
    try:
        os.open(os.devnull, os.O_RDWR)
    except OSError:
        os.open(os.sep, os.O_RDONLY)


def makeService(options: Options) -> Server:
    """Make the service; twistd has installed its reactor already."""
    reactor = exit_on_error(_import_reactor)
    _import_rest()
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


def _import_rest() -> None:
    """Import what is imported late otherwise: ``twistd --chroot`` leaves the modules behind."""
    from netsrv.streams import message_acceptor  # noqa: F401
    from netsrv.uvreactor import accepted_socket, acceptor  # noqa: F401


def exit_on_error(step: Callable[[], T]) -> T:
    """Run a step of the start; turn an error of the user into one line and exit status 1."""
    try:
        return step()
    except (ConfigurationError, SocketError, OSError) as error:
        raise SystemExit(error_text_of(error)) from None


def error_text_of(error: BaseException) -> str:
    """Return the text of an error as it is printed: a line for each mistake."""
    return "\n".join(f"netsrv: {line}" for line in format_errors(error))
