"""Tests of netsrv/streams."""
