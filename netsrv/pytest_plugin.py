"""The pytest plugin: the fixture ``netsrv_server``, and the servers' logs in reports.

It is imported wherever netsrv and pytest are installed together, so it imports nothing that
costs, and no Twisted.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from netsrv.serverprocess import ServerError, ServerProcess, servers, start_server

__all__ = ["ServerError", "ServerProcess", "netsrv_server", "start_server"]

_SEEN = pytest.StashKey[dict[int, int]]()
"""How long each server's log was when the test began."""


@pytest.fixture
def netsrv_server() -> Iterator[Callable[..., ServerProcess]]:
    """Start servers in processes of their own; they are gone after the test.

    ``netsrv_server("echo")``, ``netsrv_server("echo", transport="udp", idle_timeout=60)``,
    ``netsrv_server("mypackage.services:Greeter")``, ``netsrv_server(config="[[listener]] ...")``.
    Gives an object with ``host``, ``port``, ``address``, ``connections``, ``received``,
    ``wait_for_connections(n)``, ``log`` and ``listeners``.
    """
    with ExitStack() as started:

        def start(*arguments: Any, **options: Any) -> ServerProcess:
            __tracebackhide__ = True
            server = start_server(*arguments, **options)
            started.callback(server.stop)
            return server

        yield start


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget the servers of the tests before, and remember how much the others have said."""
    servers[:] = [each for each in servers if not each.stopped]
    item.stash[_SEEN] = {id(each): len(each.log) for each in servers}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the servers have said during the test."""
    report = yield
    if report.failed:
        seen = item.stash.get(_SEEN, {})
        for each in servers:
            said = each.log[seen.get(id(each), 0) :]
            if said:
                report.sections.append((f"Log of netsrv server {each.name}", said))
    return report
