"""The services that come with netsrv, registered as anyone's are."""

from netsrv.services.accept import AcceptService
from netsrv.services.agent import AgentService
from netsrv.services.chargen import ChargenService
from netsrv.services.daytime import DaytimeService
from netsrv.services.discard import DiscardService
from netsrv.services.echo import EchoService
from netsrv.services.forward import ForwardService
from netsrv.services.info import InfoService
from netsrv.services.qotd import QotdService
from netsrv.services.time import TimeService

accept = AcceptService()
agent = AgentService()
chargen = ChargenService()
daytime = DaytimeService()
discard = DiscardService()
echo = EchoService()
forward = ForwardService()
info = InfoService()
qotd = QotdService()
time = TimeService()
