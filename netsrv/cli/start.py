"""The start of a server that a command line asks for, by ``netsrv serve`` or by twistd."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import evolve

from netsrv.cli.arguments import Given
from netsrv.cli.check import check
from netsrv.cli.collector import FullCollections
from netsrv.cli.directory import StartDirectory
from netsrv.cli.mistakes import (
    INETD_ALONE,
    JSON_OF_NOTHING,
    NO_CONFIG,
    NOTHING_TO_SERVE,
    UsageMistake,
)
from netsrv.cli.printing import ExitStatus
from netsrv.cli.reloading import Reloader, format_errors, start_thread
from netsrv.cli.reports import print_about_services
from netsrv.cli.signals import install_signal_handlers
from netsrv.config.command_line import OPTIONS, from_command_line
from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings, Transport
from netsrv.files import standard_descriptor
from netsrv.registry import Registry, find_services
from netsrv.server.checked import CheckedConfiguration, check_configuration
from netsrv.server.prepare import Prepared, prepare
from netsrv.settings import MAX_SHOWN_PATH, shorten
from netsrv.sockets.addresses import (
    ADDRESS_FORMS,
    ENDPOINTS,
    SYSTEMD,
    InheritedName,
    InternetAddress,
)
from netsrv.sockets.inherited import adopt, inherited_sockets, transport_of
from netsrv.sockets.steps import AddressUnavailable
from netsrv.streams.connected import is_connected

if TYPE_CHECKING:
    from netsrv.server.server import Server
    from netsrv.workers.master import Master
    from netsrv.workers.preparation import PreparedWorkers
    from netsrv.workers.upgrade import Handover

STANDARD_DESCRIPTORS = (0, 1, 2)

HANDOVER_VARIABLE = "NETSRV_HANDOVER"
"""The variable with the descriptor of what the program before this one has left."""


class Start:
    """What a command line asks for.

    *variables* are the environment variables that have given something, by the options for which
    they stand.  *io_error* is the exit status if a report cannot be printed.
    """

    def __init__(
        self,
        given: Given,
        variables: Mapping[str, str] | None = None,
        io_error: int = ExitStatus.IO_ERROR,
    ) -> None:
        self.given = given
        self.listeners: list[tuple[str, str]] = []
        """Pairs of a transport and ``[SERVICE=]ADDRESS``."""
        self.arguments: dict[str, Any] = {}
        """The arguments of the other options, by the names of the settings."""
        self.service_settings: list[str] = []
        """Settings of services: ``SERVICE.KEY=VALUE``."""
        self.config: str | None = None
        """The configuration file as the user wrote it."""
        self.inetd: str | None = None
        """The service of the socket on descriptor 0."""
        self.is_connected = False
        """True if that socket is a connection."""
        self.is_daemon = False
        """True if the server has, or will have, no standard output."""
        self.has_jail = False
        """True if the process is about to be confined by chroot(2)."""
        self._variables = variables or {}
        self._io_error = io_error
        self._reports: set[str] = set()
        """The options that ask for a report: ``check``, ``json``."""
        self.environ: Mapping[str, str] = os.environ
        """The environment before variables were taken from it."""
        self._directory = StartDirectory()
        self.file_text: str | None = None
        """The text of the configuration file when it was read last."""
        self._fixed_text: str | None = None
        self._manager: Any = None
        for name, value in given:
            self._add(name, value)

    def _add(self, name: str, value: Any) -> None:
        """Add an option by its name, with its argument."""
        if name in list(Transport):
            self.listeners.append((name, value))
        elif name in ("config", "inetd"):
            setattr(self, name, value)
        elif name == "service_settings":
            self.service_settings.append(value)
        elif name not in OPTIONS:
            self._reports.add(name)
        elif OPTIONS[name].kind.repeatable:
            self.arguments.setdefault(name, []).append(value)
        else:
            self.arguments[name] = value

    def check_usage(self) -> None:
        """Raise `UsageMistake` if there is nothing to serve."""
        if "json" in self._reports and "check" not in self._reports:
            raise UsageMistake(JSON_OF_NOTHING)
        if self.config == "":
            raise UsageMistake(NO_CONFIG)
        listens = (
            bool(self.listeners) or self.config is not None or "control_address" in self.arguments
        )
        if self.inetd is not None and listens:
            raise UsageMistake(INETD_ALONE)
        if self.inetd is None and not listens:
            raise UsageMistake(NOTHING_TO_SERVE)

    @property
    def directory(self) -> str | None:
        """The working directory of the start; None if it was deleted."""
        return self._directory.path

    def use_file(self, text: str | None, directory: str | None) -> None:
        """Use the *text* of a file that was read before, by a start in *directory*."""
        self._fixed_text = text
        self._directory = StartDirectory(directory)

    def configuration(self, registry: Registry | None = None) -> Configuration:
        """Return the configuration of file and command line; *registry* has the services.

        Every call reads the file again, unless `use_file` was called.  Raises `ConfigurationError`.
        """
        file = Configuration(())
        if self.config is not None:
            from netsrv.config.toml import read_configuration, read_file

            registry = registry or find_services()
            with self._directory.entered():
                text = self._fixed_text
                self.file_text = text = read_file(self.config) if text is None else text
                file = read_configuration(self.config, registry, text=text)
            controlled = file.control.address is not None or "control_address" in self.arguments
            if not (file.listeners or self.listeners or controlled):
                raise ConfigurationError(
                    f"{self.config}: nothing to serve: it has no [[listener]], and there is no "
                    "--tcp, --udp or --unix"
                )
        with self._naming_variables():
            own = self.service_settings if self.inetd is None else []
            registry = registry or (find_services() if own else None)
            configuration = from_command_line(self.listeners, self.arguments, file, own, registry)
        if self.is_daemon:
            _check_access_log(configuration)
        if configuration.workers != 1 and configuration.control.address is not None:
            raise ConfigurationError(
                "control: its proxies and faults are those of one process; leave out workers"
            )
        return configuration

    def prepare(self) -> tuple[Configuration, Prepared | PreparedWorkers]:
        """Open every socket; with --check, print the result and exit instead.

        Raises `ConfigurationError` or `SocketError`.
        """
        self.environ = dict(os.environ)
        inherited_sockets()  # before Twisted, or another user of the variables, takes them
        sock = None
        if self.inetd is not None:
            from netsrv.cli.inetd import take_socket

            sock = take_socket()
        reserve_stdio()
        registry = find_services() if self.config or "check" in self._reports else None
        handover = self._take_handover()
        configuration = self.configuration(registry)
        self._fixed_text = None
        if sock is not None:
            configuration = self._on_socket(configuration, sock)
        try:
            with self._naming_variables():
                if registry is not None and "check" in self._reports:
                    if configuration.workers != 1:  # an upgrade relies on the check
                        from netsrv.workers import master, worker  # noqa: F401
                    lines = check(configuration, registry, "json" in self._reports)
                    print_about_services(lines, registry, self._io_error)
                self._find_manager(configuration)
                if configuration.workers != 1 or handover is not None:
                    from netsrv.workers.preparation import prepare_workers, worker_count

                    if worker_count(configuration) > 1 or handover is not None:
                        self._check_workers()
                        return configuration, prepare_workers(configuration, registry, handover)
                return configuration, prepare(configuration, registry)
        except AddressUnavailable as error:
            hint = _address_hint(error.unknown_host, configuration.listeners)
            raise AddressUnavailable(f"{error}{hint}") from error

    def _check_workers(self) -> None:
        """Raise `ConfigurationError` if this process cannot have workers."""
        if self.inetd is not None:
            raise ConfigurationError("--workers: the socket of --inetd has one process")
        if self.has_jail:
            raise ConfigurationError("--workers: twistd --chroot leaves no Python to start them by")

    def _take_handover(self) -> Handover | None:
        """Return what an earlier program of this process has left; its configuration is used."""
        if HANDOVER_VARIABLE not in os.environ:
            return None
        from netsrv.workers.upgrade import take_handover

        handover = take_handover(os.environ, HANDOVER_VARIABLE)
        self.environ = {
            key: value for key, value in self.environ.items() if key != HANDOVER_VARIABLE
        }
        if handover is not None:
            self._fixed_text = handover.file_text
        return handover

    @contextmanager
    def _naming_variables(self) -> Iterator[None]:
        """Have errors about an option that a variable has given name the variable."""
        try:
            yield
        except ConfigurationError as error:
            lines = [re.sub("^--[a-z-]+", self._variable_of, line) for line in error.lines]
            raise ConfigurationError(*lines) from error

    def _variable_of(self, option: re.Match[str]) -> str:
        return self._variables.get(option[0], option[0])

    def _find_manager(self, configuration: Configuration) -> None:
        """Claim what the service manager has stored, if there is one to talk to."""
        if "NOTIFY_SOCKET" in os.environ:
            from netsrv.cli.service_manager import ServiceManager

            self._manager = ServiceManager()
            self._manager.claim_sockets(configuration)

    def _on_socket(self, configuration: Configuration, sock: socket.socket) -> Configuration:
        """Return the configuration with a listener on the socket of descriptor 0."""
        transport = Transport(transport_of(sock))
        named = [(transport, f"{self.inetd}={SYSTEMD}0")]
        own = self.service_settings
        registry = find_services() if own else None
        asked = from_command_line(named, self.arguments, service_settings=own, registry=registry)
        settings = asked.listeners[0]
        settings = evolve(settings, address=InheritedName(""))
        opened = adopt(sock, settings.address_label, settings.all_options(), settings.backlog)
        inherited_sockets().claimed[settings.address_label] = opened
        self.is_connected = is_connected(sock)
        # inetd sends no new peer to a process that ends, so there is nothing to wait for.
        return evolve(configuration, listeners=(settings,), shutdown_delay=0.0)

    def install_signals(self, reactor: Any, server: Server) -> None:
        """Make signals stop the server and, with a file, make SIGHUP reload it.

        The service manager is notified, if there is one.  What there is when the reactor runs is
        exempted from garbage collections.
        """
        full_collections = FullCollections()
        reactor.callWhenRunning(full_collections.exempt)
        if self._manager is not None:
            self._manager.attach(reactor, server)
        reload = None
        if self.config is not None:
            reload = Reloader(
                reactor,
                server,
                self._read_again,
                self._start_reading,
                self._directory.entered,
                self._on_reload,
                full_collections,
            ).reload
        install_signal_handlers(reactor, server, reload)

    def notify_manager(self, reactor: Any, master: Master) -> None:
        """Notify the service manager, if there is one, of what a master does."""
        if self._manager is not None:
            self._manager.attach_master(reactor, master)

    def _on_reload(self, reloading: bool) -> None:
        """Notify the service manager that a reload begins or has ended."""
        if self._manager is not None:
            self._manager.reload_changed(reloading)

    def read_again(self) -> tuple[Configuration, str | None]:
        """Read the configuration, and return it with the text of its file.

        Raises `ConfigurationError`.
        """
        return self.configuration(), self.file_text

    def _read_again(self, running: Sequence[ListenerSettings]) -> CheckedConfiguration:
        """Read the configuration for a server that runs with the settings *running*."""
        with self._directory.entered():
            registry = find_services()
            configuration = self.configuration(registry)
            with self._naming_variables():
                return check_configuration(configuration, running, registry)

    def _start_reading(self, read: Callable[[], None]) -> None:
        """Read in a thread, or at once if the directory of the start has to be entered for it.

        A process has one working directory, which no thread may change under the others.
        """
        if self._directory.is_left:
            read()
        else:
            start_thread(read)


def _check_access_log(configuration: Configuration) -> None:
    """Check that a daemon writes no access log to a standard stream, which it lacks.

    Raises `ConfigurationError`.
    """
    path = configuration.access_log
    if path is not None and standard_descriptor(path) is not None:
        raise ConfigurationError(
            f"access log {shorten(path, MAX_SHOWN_PATH)}: a daemon has no standard output; "
            "name a file, or start twistd with -n"
        )


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


def error_text_of(error: BaseException) -> str:
    """Return the text of an error as it is printed: a line for each mistake."""
    return "\n".join(f"netsrv: {line}" for line in format_errors(error))


def _address_hint(host: str, listeners: Iterable[ListenerSettings]) -> str:
    """Return the end of the line about an unknown host: what may have been meant."""
    if host in ENDPOINTS:
        return f"; an address is {ADDRESS_FORMS}"
    if host in find_services().services:
        for address in (listener.address for listener in listeners):
            if isinstance(address, InternetAddress) and address.host == host:
                return f"; for the service {host} write {host}={address.port}"
    return ""
