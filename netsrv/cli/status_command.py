"""``netsrv status``: is a server ready?  For scripts, and for the health checks of containers."""

import os
from collections.abc import Iterable
from typing import Any

from netsrv.cli.fetching import ADDRESS_VARIABLE, fetch, parse_target
from netsrv.cli.printing import ExitStatus, print_error, print_line

READY, NOT_READY = 0, 1
"""Exit statuses; others are those of `ExitStatus`."""

PATH = "/readyz?verbose"

NO_ADDRESS = f"an address is missing, as in netsrv status 127.0.0.1:8423; or set {ADDRESS_VARIABLE}"


def run(given: Iterable[tuple[str, Any]]) -> int:
    """Print one line, and return the exit status."""
    values = dict(given)
    text = values.get("address") or os.environ.get(ADDRESS_VARIABLE, "").strip()
    if not text:
        print_error(f"netsrv: {NO_ADDRESS}")
        return ExitStatus.USAGE
    try:
        target = parse_target(text)
        timeout = _seconds(values.get("timeout", "5"))
    except ValueError as error:
        print_error(f"netsrv: {error}")
        return ExitStatus.USAGE
    try:
        answer = fetch(target, PATH, timeout=timeout)
    except (OSError, ValueError) as error:
        print_error(f"netsrv: {target}: {getattr(error, 'strerror', None) or error}")
        return ExitStatus.UNAVAILABLE
    if answer.status not in (200, 503):
        print_error(f"netsrv: {target}: answers {answer.status}; is it an address of --status?")
        return ExitStatus.UNAVAILABLE
    if answer.status == 200:
        print_line(f"{target}: ready")
        return READY
    lines = answer.body.decode("utf-8", "replace").splitlines()
    failures = [line[3:] for line in lines if line.startswith("[-]")]
    print_line(f"{target}: not ready: {'; '.join(failures)}")
    return NOT_READY


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise ValueError(f"--timeout {text[:60]!r}: a number of seconds, more than 0")
    return seconds
