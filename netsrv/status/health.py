"""The answers to probes, in the form of Kubernetes: a check a line, and the status code."""

from collections.abc import Sequence

from attrs import frozen

from netsrv.status.source import ServerState, StatusSource

WITHHELD = "reason withheld"


@frozen
class Check:
    """A named check."""

    name: str
    failure: str = ""
    """Why it fails; empty if it does not."""


def liveness_checks(_source: StatusSource) -> list[Check]:
    """Return the checks of ``/livez``: an answer shows that the reactor turns."""
    return [Check("reactor")]


def readiness_checks(source: StatusSource) -> list[Check]:
    """Return the checks of ``/readyz``."""
    starting = "the listeners are not open yet" if source.state is ServerState.STARTING else ""
    draining = "the server is ending" if source.state is ServerState.DRAINING else ""
    failed = "; ".join(source.failed_listeners())
    return [Check("startup", starting), Check("shutdown", draining), Check("listeners", failed)]


def report(
    name: str,
    checks: Sequence[Check],
    excluded: Sequence[str] = (),
    verbose: bool = False,
    reasons: bool = True,
) -> tuple[bool, str]:
    """Return whether all checks pass that are not excluded, and the text of the answer.

    *name* is that of the path.  Without *reasons* the text does not tell why a check fails.
    """
    passed = True
    lines = []
    for check in checks:
        if check.name in excluded:
            lines.append(f"[+]{check.name} excluded: ok")
        elif check.failure:
            passed = False
            lines.append(f"[-]{check.name} failed: {check.failure if reasons else WITHHELD}")
        else:
            lines.append(f"[+]{check.name} ok")
    if passed and not verbose:
        return True, "ok\n"
    lines.append(f"{name} check {'passed' if passed else 'failed'}")
    return passed, "".join(f"{line}\n" for line in lines)
