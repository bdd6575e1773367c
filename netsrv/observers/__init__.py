"""Who observes the server: log, counters, access log, and waiters.  Never asked, only told."""

from netsrv.observers.dispatch import Observer

__all__ = ["Observer"]
