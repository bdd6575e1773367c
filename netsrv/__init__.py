"""netsrv: TCP and UDP servers in Twisted, from four steps to a real network.

The way of a peer through the house::

    tcp   socket -> accept loop    -> gate -> service factory
    udp   socket -> datagram port  -> gate -> service protocol

A socket is opened in four steps (`netsrv.sockets`), the reactor runs the loop
that accepts connections or receives datagrams (`netsrv.transports`), the gate
stands between it and what is spoken (`netsrv.gate`), and what is spoken is a
service: a plugin (`netsrv.services` has ours).

Read in this order: `interfaces`, `services.echo`, `listeners`, `server`.
"""

__version__ = "0.1.0"
