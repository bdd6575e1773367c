"""Tests in memory of netsrv.services."""
