"""Tests of netsrv/datagrams."""
