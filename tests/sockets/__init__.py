"""Tests of netsrv/sockets."""
