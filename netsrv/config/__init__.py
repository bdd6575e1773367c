"""The configuration of a server, whether a command line, a file or a program gives it."""

from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings
from netsrv.config.readers import ListenerKeywords, listener
from netsrv.guards.limits import Limits, Overload

__all__ = [
    "Configuration",
    "ConfigurationError",
    "Limits",
    "ListenerKeywords",
    "ListenerSettings",
    "Overload",
    "listener",
]
