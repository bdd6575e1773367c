"""netsrv: TCP and UDP servers in Twisted, from four steps to a real network.

The way of a peer through the rooms of this package::

    tcp   sockets/ -> acceptor -> streams/ listener    -> gate -> services/ factory
    udp   sockets/ -> port     -> datagrams/ listener  -> gate -> services/ protocol

A socket is opened in four steps (`netsrv.sockets`).  The reactor runs the loop that accepts
connections (`netsrv.streams`) or receives datagrams (`netsrv.datagrams`).  The gate
(`netsrv.gate`) asks the guards (`netsrv.guards`) and reports to the observers
(`netsrv.observers`).  A service, which is a plugin (`netsrv.services` has the built-in ones),
speaks with the peer.  `netsrv.server` puts the parts together.

Reading order: `interfaces`, `services.echo`, `streams.listener`, `server.server`.
"""

__version__ = "0.1.0"
