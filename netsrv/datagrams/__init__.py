"""Datagrams: UDP, from the socket to the service."""
