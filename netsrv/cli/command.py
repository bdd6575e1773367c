"""``netsrv serve``: the server in the foreground, for containers and scripts.

No pid file; the log goes to standard output; the exit status says what happened.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence

from netsrv.cli.arguments import Given
from netsrv.cli.clients import run_client
from netsrv.cli.environment import given_by, unknown_variables
from netsrv.cli.log_output import begin_logging
from netsrv.cli.log_stream import replace_standard_streams
from netsrv.cli.mistakes import UsageMistake, mistake_lines
from netsrv.cli.options import SERVE
from netsrv.cli.parser import parse
from netsrv.cli.printing import ExitStatus, print_error
from netsrv.cli.reactor import install_reactor
from netsrv.cli.reports import print_reports
from netsrv.cli.start import Start, error_text_of
from netsrv.config.model import ConfigurationError
from netsrv.server.prepare import Prepared
from netsrv.sockets.steps import AddressUnavailable, SocketError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit status."""
    command = SERVE
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if any(word.startswith("--in") for word in arguments):  # --inetd, which may be abbreviated
        from netsrv.cli.inetd import separate_streams

        separate_streams()
    try:
        command, given = parse(arguments)
        print_reports(command, given, ExitStatus.IO_ERROR)
        if command is not SERVE:
            return run_client(command, given)
        start = make_start(given)
        start.check_usage()
    except UsageMistake as error:
        command = error.command or command
        print_error(mistake_lines(error, command.name))
        return ExitStatus.USAGE
    try:
        return serve(start)
    except (ConfigurationError, SocketError) as error:
        print_error(error_text_of(error))
        unavailable = isinstance(error, AddressUnavailable)
        return ExitStatus.UNAVAILABLE if unavailable else ExitStatus.CONFIGURATION
    except Exception:
        print_error(traceback.format_exc())
        return ExitStatus.SOFTWARE


def make_start(given: Given) -> Start:
    """Return the start that a command line and the environment ask for.

    The environment gives the options that the command line does not.  Raises `UsageMistake`.
    """
    names = {name for name, _ in given}
    if "log_level" in names:
        names.add("quiet")  # another form of it
    options = [option for option in SERVE.options if option.name not in names]
    from_environment = given_by(os.environ, options)
    for line in unknown_variables(os.environ, SERVE.options):
        print_error(f"netsrv: {line}")
    chosen = {name for name, _ in from_environment}
    variables = {option.long: option.variable for option in options if option.name in chosen}
    return Start([*from_environment, *given], variables)


def serve(start: Start) -> int:
    """Serve until a signal stops the server.  Raises `ConfigurationError` or `SocketError`."""
    replace_standard_streams()
    configuration, prepared = start.prepare()
    if not isinstance(prepared, Prepared):
        from netsrv.cli.master import serve_workers

        return serve_workers(start, configuration, prepared)
    install_reactor()
    from twisted.internet import reactor

    from netsrv.server.server import Server

    server = Server(reactor, configuration, prepared)
    begin_logging(configuration.log_format, lambda: server.log_level)
    start.install_signals(reactor, server)
    server.startService()
    if start.inetd is not None:
        from netsrv.cli.inetd import stop_when_served

        stop_when_served(reactor, server, start.is_connected)
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    reactor.run()
    status = ExitStatus.ABORTED if server.aborted else ExitStatus.DRAINED
    for number in (signal.SIGTERM, signal.SIGINT):  # a thread may still keep the process alive
        signal.signal(number, lambda number, frame: os._exit(status))
    return status
