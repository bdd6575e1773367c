"""The configuration of a server, from a command line, a file or a program."""

from netsrv.config.keywords import ListenerKeywords, listener
from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings, Transport
from netsrv.guards.limits import Limits, Overload

__all__ = [
    "Configuration",
    "ConfigurationError",
    "Limits",
    "ListenerKeywords",
    "ListenerSettings",
    "Overload",
    "Transport",
    "listener",
]
