"""Tests in memory of netsrv.proxy_protocol."""
