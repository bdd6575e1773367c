"""A service for twistd that does nothing but print that it waits."""

from twisted.application.service import Service
from twisted.python.usage import Options as NoOptions


class Empty(Service):
    """Waits for nothing."""

    def startService(self) -> None:
        print("Waiting for nothing", flush=True)


Options = NoOptions


def makeService(options: Options) -> Empty:
    """Called by twistd."""
    return Empty()
