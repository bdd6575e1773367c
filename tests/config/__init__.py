"""Tests of netsrv/config."""
