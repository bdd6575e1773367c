"""Tests in memory of netsrv.guards."""
