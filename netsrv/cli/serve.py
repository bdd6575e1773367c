"""``netsrv serve``: the server in the foreground, for containers and scripts.

No pid file; the log goes to standard output; the exit status says what happened,
after sysexits(3).
"""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from twisted.python import usage

from netsrv import __version__
from netsrv.cli.tap import ServerOptions, error_text_of, install_reactor
from netsrv.config.model import ConfigurationError
from netsrv.settings import MAX_TEXT_LENGTH, shorten
from netsrv.sockets.addresses import printable
from netsrv.sockets.steps import AddressUnavailable, SocketError


class ExitStatus(IntEnum):
    """Exit statuses of ``netsrv serve``."""

    DRAINED = 0
    ABORTED = 3
    USAGE = 64
    UNAVAILABLE = 69
    SOFTWARE = 70
    CONFIGURATION = 78


class Command(usage.Options):
    """The command line of ``netsrv``."""

    subCommands = [["serve", None, ServerOptions, "serve TCP and UDP in the foreground"]]

    def getSynopsis(self) -> str:
        return "Usage: netsrv" if self.subCommand else "Usage: netsrv serve [options]"

    def opt_version(self) -> None:
        """print the version of netsrv, and exit"""
        print(f"netsrv {__version__}")
        raise SystemExit(0)

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
        print(
            f"{options}\nnetsrv: {shorten(printable(str(error)), MAX_TEXT_LENGTH)}", file=sys.stderr
        )
        return ExitStatus.USAGE
    try:
        return serve(command.subOptions)
    except (ConfigurationError, SocketError) as error:
        print(error_text_of(error), file=sys.stderr)
        unavailable = isinstance(error, AddressUnavailable)
        return ExitStatus.UNAVAILABLE if unavailable else ExitStatus.CONFIGURATION
    except Exception:
        traceback.print_exc()
        return ExitStatus.SOFTWARE


class StdoutLog(io.TextIOBase):
    """Standard output for the log.

    Lines that cannot be written, because the disk is full or the pipe is closed, are counted;
    the next line that is written reports their number.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._torn = ""

    def write(self, text: str) -> int:
        news = f"{self._torn}{self.lost} lines of the log were lost before this one\n"
        data = f"{news if self.lost else ''}{text}".encode(errors="backslashreplace")
        try:
            written = os.write(sys.stdout.fileno(), data)
        except OSError:
            written = 0
        if written == len(data):
            self.lost, self._torn = 0, ""
        else:
            self.lost += 1
            self._torn = "\n" if written else self._torn
        return len(text)


def serve(options: ServerOptions) -> int:
    """Serve until a signal stops the server.  Raises `ConfigurationError` or `SocketError`."""
    configuration, prepared = options.prepare()
    install_reactor()
    from twisted.internet import reactor
    from twisted.logger import globalLogBeginner, textFileLogObserver

    from netsrv.server.server import Server

    output: Any = StdoutLog()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(output)], redirectStandardIO=False)
    server = Server(reactor, configuration, prepared)
    options.install_signals(reactor, server)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    reactor.run()
    return ExitStatus.ABORTED if server.aborted else ExitStatus.DRAINED
