"""Tests of netsrv.workers."""
