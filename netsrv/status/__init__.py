"""The status of a server: metrics, health, and the values of the status page, over HTTP."""

from netsrv.status.collector import ServerCollector

__all__ = ["ServerCollector"]
