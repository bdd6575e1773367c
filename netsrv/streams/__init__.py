"""Streams: TCP and unix sockets, from accept to the service."""
