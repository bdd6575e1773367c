"""Tests of netsrv/systemd."""
