"""The command ``twistd netsrv``, and the reactor on uvloop."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

netsrv = ServiceMaker(
    "netsrv", "netsrv.cli.tap", "TCP and UDP servers and test endpoints.", "netsrv"
)

uvloop = Reactor("uvloop", "netsrv.uvreactor", "The reactor of netsrv on uvloop.")
