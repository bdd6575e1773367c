"""``twistd netsrv``: the options, and the service made from them.

The sockets are opened while the options are parsed: so an error at the start is one line,
and ports below 1024 are open before twistd drops root privileges.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from getopt import GetoptError
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.python import usage

from netsrv.cli.arguments import Given
from netsrv.cli.commands import Option
from netsrv.cli.help import render_help
from netsrv.cli.log_stream import LogStream, replace_standard_streams
from netsrv.cli.mistakes import (
    UsageMistake,
    ambiguous_option,
    launchers_option,
    missing_argument,
    mistake_lines,
    surplus_argument,
    surplus_value,
    unknown_option,
)
from netsrv.cli.options import SERVE_OPTIONS, TWISTD, TWISTD_OPTIONS
from netsrv.cli.reactor import install_reactor
from netsrv.cli.reports import print_reports
from netsrv.cli.signals import hold_signals
from netsrv.cli.start import Start, error_text_of
from netsrv.config.model import Configuration, ConfigurationError
from netsrv.server.prepare import Prepared
from netsrv.sockets.steps import SocketError
from netsrv.sockets.unixfiles import file_mode

if TYPE_CHECKING:
    from netsrv.server.server import Server
    from netsrv.workers.master import Master
    from netsrv.workers.preparation import PreparedWorkers

T = TypeVar("T")

ALL_PERMISSIONS = 0o777

IO_ERROR = 1
"""The exit status if a report cannot be printed: within twistd every error has this one."""


def _add_options(options: type[Options]) -> type[Options]:
    """Add a method for each option, as `twisted.python.usage` wants it."""
    for option in TWISTD_OPTIONS:
        for flag, method in _option_methods(option):
            setattr(options, f"opt_{flag.lstrip('-').replace('-', '_')}", method)
    return options


def _option_methods(option: Option) -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield the forms of an option, each with its handler."""

    def set_flag(options: Options) -> None:
        options.given.append((option.name, True))

    def clear_flag(options: Options) -> None:
        options.given.append((option.name, False))

    def set_value(options: Options, text: str) -> None:
        options.given.append((option.name, text))

    method = set_value if option.metavar else set_flag
    method.__doc__ = f"{option.metavar}: {option.description}".removeprefix(": ")
    for flag in reversed(option.flags):
        yield flag, method
    if option.negation:
        clear_flag.__doc__ = f"do not {option.help}"
        yield option.negation, clear_flag


@_add_options
class Options(usage.Options):
    """The options within ``twistd`` and ``twist``, where every error has the exit status 1."""

    synopsis = TWISTD.synopsis
    start: Start
    prepared: tuple[Configuration, Prepared | PreparedWorkers]

    def __init__(self) -> None:
        super().__init__()
        self.given: Given = []

    def getUsage(self, width: int | None = None) -> str:
        return render_help(TWISTD, width)

    def parseOptions(self, options: Any = None) -> None:
        """Read the options, and open the sockets.  Exits with the lines about a mistake."""
        hold_signals()
        try:
            super().parseOptions(options)
        except (UsageMistake, usage.UsageError) as error:
            command = f"{self._launcher_name} netsrv"
            raise SystemExit(mistake_lines(self._describe(error), command)) from None

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise UsageMistake(surplus_argument(arguments[0], TWISTD_OPTIONS))

    def postOptions(self) -> None:
        print_reports(TWISTD, self.given, IO_ERROR)
        self.start = Start(self.given, io_error=IO_ERROR)
        self.start.check_usage()
        self._replace_streams()
        self.start.is_daemon = self._is_daemon
        self.start.has_jail = self._launcher.get("chroot") is not None
        self.prepared = exit_on_error(self._prepare)
        atexit.register(self.prepared[1].close)  # twistd may still fail to start
        if isinstance(self.prepared[1], Prepared):
            install_reactor()

    def _prepare(self) -> tuple[Configuration, Prepared | PreparedWorkers]:
        """Open every socket with the umask that twistd applies only later."""
        umask = self._launcher.get("umask")
        with file_mode(None if umask is None else ALL_PERMISSIONS & ~umask):
            return self.start.prepare()

    def _describe(self, error: Exception) -> str:
        """Return our text for an error of the options."""
        cause = error.__context__
        if isinstance(error, UsageMistake) or not isinstance(cause, GetoptError):
            return str(error)
        flag = f"-{cause.opt}" if len(cause.opt) == 1 else f"--{cause.opt}"
        if "requires argument" in cause.msg:
            return missing_argument(flag, TWISTD_OPTIONS)
        if "must not have an argument" in cause.msg:
            return surplus_value(flag)
        if "unique prefix" in cause.msg:
            return ambiguous_option(flag, TWISTD_OPTIONS)
        return self._describe_unknown(cause.opt, flag)

    def _describe_unknown(self, name: str, flag: str) -> str:
        if any(flag in option.flags for option in SERVE_OPTIONS):
            return f"{flag} is an option of netsrv serve only"
        if self._is_launchers(name):
            return launchers_option(flag, self._launcher_name)
        return unknown_option(flag, TWISTD_OPTIONS)

    def _is_launchers(self, name: str) -> bool:
        """Return True for the name of an option of twistd or twist: ``n``, ``pidfile``."""
        launcher: Any = self._launcher
        names = [name.rstrip("=") for name in getattr(launcher, "longOpt", ())]
        return name in (*names, *getattr(launcher, "shortOpt", "").replace(":", ""))

    @property
    def _launcher(self) -> dict[str, Any]:
        """The options of twistd or twist; empty without either."""
        return getattr(self, "parent", None) or {}

    @property
    def _launcher_name(self) -> str:
        return "twistd" if "nodaemon" in self._launcher else "twist"

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


def makeService(options: Options) -> Server | Master:
    """Make the service; twistd has installed its reactor already."""
    reactor = exit_on_error(_import_reactor)
    configuration, prepared = options.prepared
    if not isinstance(prepared, Prepared):
        from netsrv.cli.master import make_master

        master = make_master(reactor, options.start, configuration, prepared)
        atexit.register(_exit_by_error, master)
        return master
    _import_rest(configuration)
    from netsrv.server.server import Server  # an error at the start does not pay for it

    server = Server(reactor, configuration, prepared)
    options.start.install_signals(reactor, server)
    return server


def _exit_by_error(master: Master) -> None:
    """End with the status of an error if the master has given up: twistd would end with 0."""
    if master.error:
        os._exit(1)


def _import_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def _import_rest(configuration: Configuration) -> None:
    """Import what is imported late otherwise: ``twistd --chroot`` leaves the modules behind."""
    from netsrv.datagrams import faulty  # noqa: F401
    from netsrv.datagrams import listener as datagrams  # noqa: F401
    from netsrv.server import faulting  # noqa: F401
    from netsrv.streams import listener, message_acceptor, proxy_stage  # noqa: F401
    from netsrv.uvreactor import accepted_socket, acceptor  # noqa: F401

    if any(settings.tls.certificate for settings in configuration.listeners):
        from netsrv.streams import tls_stage  # noqa: F401
    if configuration.status.wanted:
        from netsrv.status import service  # noqa: F401
    if configuration.control.address is not None:
        from netsrv.control import proxies  # noqa: F401
        from netsrv.control import service as control_service  # noqa: F401
        from netsrv.services import forward_datagrams, forward_streams  # noqa: F401


def exit_on_error(step: Callable[[], T]) -> T:
    """Run a step of the start; turn an error of the user into one line and exit status 1."""
    try:
        return step()
    except (ConfigurationError, SocketError, OSError) as error:
        raise SystemExit(error_text_of(error)) from None
