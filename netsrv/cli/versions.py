"""The versions of netsrv and of what it runs on."""

from importlib.metadata import PackageNotFoundError, version
from platform import python_implementation, python_version

from netsrv import __version__
from netsrv.cli.reactor import reactor_name


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


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
