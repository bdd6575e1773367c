"""``netsrv serve``: the server in the foreground, for containers and scripts.

No pid file; the log goes to standard output; the exit status says what happened.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence

from netsrv.cli.arguments import Given
from netsrv.cli.clients import CLIENTS, HELP, run_client
from netsrv.cli.commands import Command
from netsrv.cli.environment import given_by, unknown_variables
from netsrv.cli.help import render_help
from netsrv.cli.log_output import begin_logging
from netsrv.cli.log_stream import replace_standard_streams
from netsrv.cli.mistakes import UsageMistake, mistake_lines, wrong_choice
from netsrv.cli.options import COMPLETION, SERVE, VERSION
from netsrv.cli.parser import parse
from netsrv.cli.printing import ExitStatus, print_error, print_report
from netsrv.cli.start import Start, error_text_of, install_reactor
from netsrv.config.model import ConfigurationError
from netsrv.sockets.steps import AddressUnavailable, SocketError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit status."""
    command = SERVE
    try:
        command, given = parse(sys.argv[1:] if arguments is None else list(arguments))
        print_reports(command, given)
        if command in CLIENTS:
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


def print_reports(command: Command, given: Given) -> None:
    """Print what a command prints about itself, if it is asked for, and exit.

    Raises `UsageMistake`.
    """
    for name, value in given:
        if name == HELP.name:
            print_report(render_help(command), ExitStatus.IO_ERROR)
        if name == VERSION.name:
            from netsrv.cli.versions import version_report

            print_report(version_report(), ExitStatus.IO_ERROR)
        if name == COMPLETION.name:
            if value not in COMPLETION.choices:
                raise UsageMistake(wrong_choice(COMPLETION, value))
            from netsrv.cli.completion import completion_script

            print_report(completion_script(value), ExitStatus.IO_ERROR)


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
    variables = {option.name: option.variable for option in options}
    chosen = {name: variables[name] for name, _ in from_environment}
    return Start([*from_environment, *given], chosen)


def serve(start: Start) -> int:
    """Serve until a signal stops the server.  Raises `ConfigurationError` or `SocketError`."""
    replace_standard_streams()
    configuration, prepared = start.prepare()
    install_reactor()
    from twisted.internet import reactor

    from netsrv.server.server import Server

    server = Server(reactor, configuration, prepared)
    begin_logging(configuration.log_format, lambda: server.log_level)
    start.install_signals(reactor, server)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    reactor.run()
    status = ExitStatus.ABORTED if server.aborted else ExitStatus.DRAINED
    for number in (signal.SIGTERM, signal.SIGINT):  # a thread may still keep the process alive
        signal.signal(number, lambda number, frame: os._exit(status))
    return status
