"""The start of a server that a command line asks for, by ``netsrv serve`` or by twistd."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from netsrv.cli.check import check
from netsrv.cli.directory import StartDirectory
from netsrv.cli.mistakes import JSON_OF_NOTHING, NO_CONFIG, NOTHING_TO_SERVE, UsageMistake
from netsrv.cli.parser import Given
from netsrv.cli.printing import ExitStatus
from netsrv.cli.reloading import Reloader, format_errors, start_thread
from netsrv.cli.reports import print_about_services
from netsrv.cli.signals import install_signal_handlers
from netsrv.config.command_line import OPTIONS, from_command_line
from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings, Transport
from netsrv.files import standard_descriptor
from netsrv.registry import Registry, find_services
from netsrv.server.prepare import Prepared, prepare
from netsrv.server.reload import CheckedConfiguration, check_configuration
from netsrv.server.server import Server
from netsrv.settings import MAX_SHOWN_PATH, shorten
from netsrv.sockets.addresses import ADDRESS_FORMS, ENDPOINTS, InternetAddress
from netsrv.sockets.steps import AddressUnavailable

STANDARD_DESCRIPTORS = (0, 1, 2)


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
        self.listeners: list[tuple[str, str]] = []
        """Pairs of a transport and ``[SERVICE=]ADDRESS``."""
        self.arguments: dict[str, Any] = {}
        """The arguments of the other options, by the names of the settings."""
        self.config: str | None = None
        """The configuration file as the user wrote it."""
        self.is_daemon = False
        """True if the server has, or will have, no standard output."""
        self._variables = variables or {}
        self._io_error = io_error
        self._reports: set[str] = set()
        """The options that ask for a report: ``check``, ``json``."""
        self._directory = StartDirectory()
        for name, value in given:
            self._add(name, value)

    def _add(self, name: str, value: Any) -> None:
        """Add an option by its name, with its argument."""
        if name in list(Transport):
            self.listeners.append((name, value))
        elif name == "config":
            self.config = value
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
        if not self.listeners and self.config is None:
            raise UsageMistake(NOTHING_TO_SERVE)

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
        with self._naming_variables():
            configuration = from_command_line(self.listeners, self.arguments, file)
        if self.is_daemon:
            _check_access_log(configuration)
        return configuration

    def prepare(self) -> tuple[Configuration, Prepared]:
        """Open every socket; with --check, print the result and exit instead.

        Raises `ConfigurationError` or `SocketError`.
        """
        reserve_stdio()
        registry = find_services() if self.config or "check" in self._reports else None
        configuration = self.configuration(registry)
        try:
            with self._naming_variables():
                if registry is not None and "check" in self._reports:
                    lines = check(configuration, registry, "json" in self._reports)
                    print_about_services(lines, registry, self._io_error)
                return configuration, prepare(configuration, registry)
        except AddressUnavailable as error:
            hint = _address_hint(error.unknown_host, configuration.listeners)
            raise AddressUnavailable(f"{error}{hint}") from error

    @contextmanager
    def _naming_variables(self) -> Iterator[None]:
        """Have errors about an option that a variable has given name the variable."""
        try:
            yield
        except ConfigurationError as error:
            words = (line.partition(" ") for line in error.lines)
            lines = [
                f"{self._variables.get(word, word)}{space}{rest}" for word, space, rest in words
            ]
            raise ConfigurationError(*lines) from error

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
