"""Third-party plugins: modules that a test writes and netsrv finds on PYTHONPATH."""

import textwrap
from pathlib import Path

_HEAD = '''
"""Services of the Acme company."""

from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from netsrv.interfaces import IDatagramService, IStreamService


@implementer(IStreamService, IDatagramService)
class Service:
    settings = None

    def __init__(self, name, protocol=Protocol, datagrams=DatagramProtocol):
        self.name = name
        self.description = f"{name} by Acme"
        self._protocol = protocol
        self._datagrams = datagrams

    def stream(self, settings):
        return Factory.forProtocol(self._protocol)

    def datagram(self, settings):
        return self._datagrams()


class Greeting(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello from Acme\\n")
        self.transport.loseConnection()
'''


def module(folder: Path, name: str, source: str) -> Path:
    """Write a plugin module, and return its path."""
    plugins = folder / "twisted" / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    path = plugins / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    return path


def services(folder: Path, source: str, name: str = "acme_services") -> Path:
    """Write a plugin module that may use ``Service`` and ``Greeting``."""
    return module(folder, name, _HEAD + textwrap.dedent(source))


def on_path(folder: Path) -> dict[str, str]:
    """Return the environment in which the plugins below *folder* are found."""
    return {"PYTHONPATH": str(folder)}
