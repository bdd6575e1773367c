"""The built-in services: one file each, with the stream and the datagram face together.

A service here uses Twisted, and of netsrv only what a service of a third party can use.  The
gate admits its peers, and closes its connections so that the peer gets every byte.
"""
