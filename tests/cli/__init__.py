"""Tests of netsrv/cli."""
