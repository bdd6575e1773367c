"""The entry of a worker, which the master starts: see `netsrv.workers`.

Its lines of the log are JSON, which the master reads.
"""

from __future__ import annotations

import traceback

from twisted.logger import Logger

from netsrv import __version__
from netsrv.cli.collector import FullCollections
from netsrv.cli.log_output import begin_logging
from netsrv.cli.log_stream import replace_standard_streams
from netsrv.cli.printing import ExitStatus
from netsrv.cli.reactor import install_reactor
from netsrv.cli.reloading import format_errors
from netsrv.cli.start import Start
from netsrv.config.model import ConfigurationError, LogFormat, LogLevel
from netsrv.registry import find_services
from netsrv.sockets.steps import SocketError
from netsrv.workers.orders import Order, read_order
from netsrv.workers.worker import (
    Worker,
    configure,
    leave_signals_to_master,
    make_admissions_for,
    open_memory,
    prepare_worker,
)

log = Logger()


def main(descriptor: int) -> int:
    """Serve by the order in the file *descriptor*; return the exit status."""
    leave_signals_to_master()
    replace_standard_streams()
    order = read_order(descriptor)
    workers: list[Worker] = []
    begin_logging(LogFormat.JSON, lambda: workers[0].log_level if workers else LogLevel.WARN)
    try:
        if order.version != __version__:
            text = f"netsrv {order.version} runs, and {__version__} is installed: restart it"
            raise ConfigurationError(text)
        return serve(order, workers)
    except (ConfigurationError, SocketError) as error:
        for line in format_errors(error):
            log.error("{line}", line=line)
        return ExitStatus.CONFIGURATION
    except Exception:
        log.error("{text}", text=traceback.format_exc())
        return ExitStatus.SOFTWARE


def serve(order: Order, workers: list[Worker]) -> int:
    """Serve until the master says otherwise; the worker is added to *workers*.

    Raises `ConfigurationError` or `SocketError`.
    """
    start = Start(order.given)
    start.use_file(order.file_text, order.directory)
    registry = find_services()
    configuration, memory = configure(start.configuration(registry), order), open_memory(order)
    prepared = prepare_worker(configuration, order, registry, memory)
    install_reactor()
    from twisted.internet import reactor

    from netsrv.server.server import Server

    server = Server(
        reactor,
        configuration,
        prepared,
        announces=False,
        make_admission=make_admissions_for(configuration, order, memory, reactor),
    )
    worker = Worker(reactor, order, server)
    workers.append(worker)
    worker.start()
    reactor.callWhenRunning(FullCollections().exempt)
    reactor.run(False)  # type: ignore[call-arg]  # no signal handlers
    return ExitStatus.DRAINED
