"""Servers in processes of their own, for the tests of this folder."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.process.running import Running
from tests.process.starts import SERVE, Start


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start servers: ``serve("--tcp", "echo=0", start=TWISTD)`` returns a `Running`.

    Their working directory is ``tmp_path``.  A server that still runs after the test is killed.
    """
    with ExitStack() as servers:

        def start_server(
            *options: str, start: Start = SERVE, env: dict[str, str] | None = None, **popen: Any
        ) -> Running:
            command = [*start.command, *options]
            return servers.enter_context(Running(command, tmp_path, env, **popen))

        yield start_server
