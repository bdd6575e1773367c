"""The start of a master and its workers, by ``netsrv serve`` or by twistd."""

from __future__ import annotations

import os
import signal
from typing import Any

from netsrv.cli.log_output import begin_logging
from netsrv.cli.printing import ExitStatus
from netsrv.cli.reloading import format_errors
from netsrv.cli.signals import SIGNALS, install_signal_handlers
from netsrv.cli.start import HANDOVER_VARIABLE, Start
from netsrv.config.model import Configuration
from netsrv.workers.master import Master
from netsrv.workers.origin import Origin
from netsrv.workers.preparation import PreparedWorkers


def serve_workers(start: Start, configuration: Configuration, prepared: PreparedWorkers) -> int:
    """Keep workers running until a signal stops the server; return the exit status."""
    from twisted.internet import reactor

    master = make_master(reactor, start, configuration, prepared, HANDOVER_VARIABLE)
    begin_logging(configuration.log_format, lambda: master.log_level)
    master.startService()
    reactor.addSystemEventTrigger("before", "shutdown", master.stopService)
    reactor.run()
    status = ExitStatus.ABORTED if master.aborted else ExitStatus.DRAINED
    if master.error:
        status = ExitStatus.SOFTWARE
    for number in (signal.SIGTERM, signal.SIGINT):  # a thread may still keep the process alive
        signal.signal(number, lambda number, frame: os._exit(status))
    return status


def make_master(
    reactor: Any,
    start: Start,
    configuration: Configuration,
    prepared: PreparedWorkers,
    variable: str | None = None,
) -> Master:
    """Return the master, with its signals installed as soon as *reactor* runs.

    Without *variable* it cannot execute its program again.
    """
    origin = Origin(
        start.given,
        start.directory,
        start.read_again,
        format_errors,
        start.environ,
        variable,
        SIGNALS,
    )
    master = Master(reactor, configuration, prepared, start.file_text, origin)
    start.notify_manager(reactor, master)
    install_signal_handlers(
        reactor,
        master,
        master.reload,
        {
            signal.SIGUSR2: master.upgrade,
            signal.SIGTTIN: lambda: master.resize(1),
            signal.SIGTTOU: lambda: master.resize(-1),
        },
    )
    return master
