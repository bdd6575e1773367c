"""``netsrv top``: shows a running server in a terminal, as lines or as JSON."""

import json
import os
from collections.abc import Iterable
from typing import Any

from netsrv.cli.fetching import (
    ADDRESS_VARIABLE,
    TOKEN_VARIABLE,
    Target,
    fetch,
    parse_target,
    read_token,
)
from netsrv.cli.printing import ExitStatus, print_error

CONTRACT = 1
"""The form of the answers that this module knows."""

NO_ADDRESS = f"an address is missing, as in netsrv top 127.0.0.1:8423; or set {ADDRESS_VARIABLE}"
NO_TOKEN = f"needs a token: --token-file, or {TOKEN_VARIABLE}"


def run(given: Iterable[tuple[str, Any]]) -> int:
    """Show the server until the user ends it, and return the exit status."""
    values = dict(given)
    text = values.get("address") or os.environ.get(ADDRESS_VARIABLE, "").strip()
    try:
        if not text:
            raise ValueError(NO_ADDRESS)
        target = parse_target(text)
        token = _read_token(values.get("token"))
    except ValueError as error:
        print_error(f"netsrv: {error}")
        return ExitStatus.USAGE
    from netsrv.cli.top.answers import Answers
    from netsrv.cli.top.running import run as show

    answers = Answers(lambda path: fetch_status(target, path, token), "json" not in values)
    try:
        show(answers, "once" in values, "json" in values)
    except (OSError, ValueError) as error:
        print_error(f"netsrv: {target}: {getattr(error, 'strerror', None) or error}")
        return ExitStatus.UNAVAILABLE
    return 0


def fetch_status(target: Target, path: str, token: str) -> dict[str, Any]:
    """Return the answer of a status server.  Raises OSError or ValueError."""
    answer = fetch(target, path, token)
    if answer.status == 401:
        raise ValueError(NO_TOKEN)
    if answer.status != 200:
        raise ValueError(f"answers {answer.status}; is it an address of --status?")
    try:
        status = json.loads(answer.body)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("contract") != CONTRACT:
        raise ValueError("answers nothing that this version of netsrv top knows")
    return status


def _read_token(file: str | None) -> str:
    try:
        return read_token(file)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--token-file {file}: {getattr(error, 'strerror', None) or error}"
        ) from None
