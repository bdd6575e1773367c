"""The command ``twistd netsrv``."""

from twisted.application.service import ServiceMaker

netsrv = ServiceMaker("netsrv", "netsrv.tap", "TCP and UDP servers and test endpoints.", "netsrv")
