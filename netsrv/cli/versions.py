"""The versions of netsrv and of what it runs on."""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from platform import python_implementation, python_version

from netsrv import __version__


def version_report() -> str:
    """Return the versions, a line each, and the reactor that a server would run on."""
    implementation = python_implementation()
    python = "Python" if implementation == "CPython" else implementation
    return "\n".join(
        [
            f"netsrv {__version__}",
            f"{python} {python_version()}",
            f"Twisted {version('twisted')}",
            f"uvloop {_version_of('uvloop')}",
            f"reactor {reactor_name()}",
        ]
    )


def reactor_name() -> str:
    """Return the name of the reactor that is installed, or that would be: ``uvloop``."""
    reactor = sys.modules.get("twisted.internet.reactor")
    if reactor is not None:
        module = type(reactor).__module__
    elif find_spec("uvloop") is not None:
        module = "netsrv.uvreactor"
    else:
        from twisted.internet.default import install

        module = install.__module__
    name = module.removeprefix("netsrv.").removeprefix("twisted.internet.")
    return {"uvreactor": "uvloop"}.get(name.partition(".")[0], name.removesuffix("reactor"))


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
