"""A server as a Twisted application: twistd -n -y netsrv.tac

Other parts of the program, such as a web site or a database pool, get the same parent.
"""

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from netsrv.server import Server, listener


class Hello(Resource):
    """One page."""

    isLeaf = True

    def render_GET(self, request):
        return b"hello\n"


application = Application("netsrv")
server = Server(
    reactor,
    [
        listener("tcp", "127.0.0.1:7101", Site(Hello()), max_connections=1000, lifetime=3600),
        listener("udp", "127.0.0.1:7101", "echo"),
    ],
)
server.setServiceParent(application)
