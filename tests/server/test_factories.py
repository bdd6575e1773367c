"""Services that raise while they are built."""

import pytest
from zope.interface import implementer

from netsrv.config import ConfigurationError, listener
from netsrv.interfaces import IDatagramService, IStreamService
from netsrv.registry import Registry
from netsrv.server.factories import build_factory

SURPRISES = [KeyboardInterrupt, GeneratorExit, SystemExit, MemoryError, BaseException]


@implementer(IStreamService, IDatagramService)
class Moody:
    """A service whose parts raise."""

    name, description, settings = "moody", "moody", None

    def __init__(self, surprise):
        self.stream = self.datagram = self._raise
        self._surprise = surprise

    def _raise(self, settings):
        raise self._surprise


class Shy:
    """An object that raises at every look at it."""

    def __getattribute__(self, name):
        raise KeyboardInterrupt

    def __repr__(self):
        raise GeneratorExit


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("surprise", SURPRISES)
def test_f134_a_service_that_raises_is_a_line_of_the_configuration(transport, surprise):
    """Whatever it raises, the line names the address, the service and the exception."""
    registry = Registry({"moody": Moody(surprise)})
    expected = rf"{transport} 127.0.0.1:0: the service 'moody' failed: {surprise.__name__}"
    with pytest.raises(ConfigurationError, match=expected):
        build_factory(listener(transport, "127.0.0.1:0", "moody"), registry)


def test_f134_an_odd_object_instead_of_a_factory_is_a_line_of_the_configuration():
    """The object is not trusted to answer questions either."""
    moody = Moody(None)
    moody.stream = lambda settings: Shy()
    with pytest.raises(ConfigurationError, match="the service 'moody' failed: KeyboardInterrupt"):
        build_factory(listener("tcp", "127.0.0.1:0", "moody"), Registry({"moody": moody}))
