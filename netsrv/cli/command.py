"""``netsrv serve``: the server in the foreground, for containers and scripts.

No pid file; the log goes to standard output; the exit status says what happened.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence

from twisted.python import usage

from netsrv import __version__
from netsrv.cli.log_stream import replace_standard_streams
from netsrv.cli.printing import ExitStatus, print_error, print_report
from netsrv.cli.tap import ServerOptions, error_text_of, install_reactor
from netsrv.config.model import ConfigurationError
from netsrv.settings import MAX_TEXT_LENGTH, shorten
from netsrv.sockets.addresses import printable
from netsrv.sockets.steps import AddressUnavailable, SocketError


class Command(usage.Options):
    """The command line of ``netsrv``."""

    subCommands = [["serve", None, ServerOptions, "serve TCP and UDP in the foreground"]]

    def getSynopsis(self) -> str:
        return "Usage: netsrv" if self.subCommand else "Usage: netsrv serve [options]"

    def opt_version(self) -> None:
        """print the version of netsrv, and exit"""
        print_report(f"netsrv {__version__}", ExitStatus.IO_ERROR)

    def opt_help(self) -> None:
        """print this help, and exit"""
        print_report(str(self), ExitStatus.IO_ERROR)

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise usage.UsageError("a command is missing: netsrv serve --tcp 51423")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit status."""
    command = Command()
    try:
        command.parseOptions(sys.argv[1:] if arguments is None else list(arguments))
    except usage.UsageError as error:
        options = getattr(command, "subOptions", command)
        print_error(f"{options}\nnetsrv: {shorten(printable(str(error)), MAX_TEXT_LENGTH)}")
        return ExitStatus.USAGE
    try:
        return serve(command.subOptions)
    except (ConfigurationError, SocketError) as error:
        print_error(error_text_of(error))
        unavailable = isinstance(error, AddressUnavailable)
        return ExitStatus.UNAVAILABLE if unavailable else ExitStatus.CONFIGURATION
    except Exception:
        print_error(traceback.format_exc())
        return ExitStatus.SOFTWARE


def serve(options: ServerOptions) -> int:
    """Serve until a signal stops the server.  Raises `ConfigurationError` or `SocketError`."""
    replace_standard_streams()
    configuration, prepared = options.prepare()
    install_reactor()
    from twisted.internet import reactor
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from netsrv.server.server import Server

    outputs = [sys.stdout] if sys.stdout else []
    globalLogBeginner.beginLoggingTo(map(textFileLogObserver, outputs), redirectStandardIO=False)
    server = Server(reactor, configuration, prepared)
    options.install_signals(reactor, server)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    reactor.run()
    status = ExitStatus.ABORTED if server.aborted else ExitStatus.DRAINED
    for number in (signal.SIGTERM, signal.SIGINT):  # a thread may still keep the process alive
        signal.signal(number, lambda number, frame: os._exit(status))
    return status
