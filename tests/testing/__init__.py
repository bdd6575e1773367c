"""Tests of netsrv/testing."""
