"""Tests of netsrv/server."""
