"""The reactor of a server: uvloop's, or Twisted's default where uvloop cannot be imported."""

import sys
from contextlib import suppress


def can_import_uvloop() -> bool:
    """Return True if uvloop can be imported."""
    with suppress(ImportError):
        import uvloop  # noqa: F401

        return True
    return False


def install_reactor() -> None:
    """Install uvloop's reactor, if it can be, and unless there is one.

    Twisted installs its default where a reactor is imported.
    """
    if "twisted.internet.reactor" not in sys.modules and can_import_uvloop():
        from netsrv.uvreactor import install

        install()


def reactor_name() -> str:
    """Return the name of the reactor that is installed, or that would be: ``uvloop``."""
    reactor = sys.modules.get("twisted.internet.reactor")
    if reactor is not None:
        module = type(reactor).__module__
    elif can_import_uvloop():
        module = "netsrv.uvreactor"
    else:
        from twisted.internet.default import install

        module = install.__module__
    name = module.removeprefix("netsrv.").removeprefix("twisted.internet.")
    return {"uvreactor": "uvloop"}.get(name.partition(".")[0], name.removesuffix("reactor"))
