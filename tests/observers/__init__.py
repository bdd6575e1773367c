"""Tests in memory of netsrv.observers."""
