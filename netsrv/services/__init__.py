"""What is served: one file a service, its stream and its datagram face together.

A service here uses Twisted and nothing of netsrv that a third party's could not
use.  It decides nothing about who may come in; and how a connection ends well
is the gate's work.
"""
