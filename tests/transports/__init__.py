"""Tests in memory of netsrv.transports."""
