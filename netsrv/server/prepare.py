"""What is ready before there is a reactor: services built and sockets bound, all or none.

It may need root, and it is the part of a start that can fail for the user's reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import Factory, field, frozen

from netsrv.config.model import Configuration, ConfigurationError, ListenerSettings
from netsrv.control.opening import NO_CONTROL_SERVER, PreparedControl, open_control
from netsrv.files import LogFile
from netsrv.interfaces import ListenerInfo
from netsrv.registry import Registry, find_services
from netsrv.server.binding import bind, close_all, expand, info_of
from netsrv.server.certificates import certificate_warnings, load_certificates
from netsrv.server.factories import build_factory, check_protocols
from netsrv.settings import MAX_SHOWN_PATH, shorten
from netsrv.sockets.inherited import unused_sockets
from netsrv.sockets.opening import OpenSocket
from netsrv.status.opening import NO_STATUS_SERVER, PreparedStatus, open_status

if TYPE_CHECKING:
    from netsrv.tls.store import CertificateStore


@frozen
class PreparedListener:
    """The parts of a listener: its settings, its service, and its bound socket."""

    settings: ListenerSettings
    service: Any
    """A factory, or a DatagramProtocol for UDP."""
    socket: OpenSocket
    info: ListenerInfo = field(
        default=Factory(lambda self: info_of(self.settings, self.socket), takes_self=True)
    )
    """Its identity, with the address in effect."""
    certificates: CertificateStore | None = None
    """The certificates for TLS; None without TLS."""

    @property
    def name(self) -> str:
        """The listener in the log: ``tcp 0.0.0.0:7 (echo)``."""
        return str(self.info)


@frozen
class Prepared:
    """All parts of a server that need no reactor."""

    listeners: tuple[PreparedListener, ...]
    problems: tuple[str, ...]
    """What the user should know, a line each: plugins that cannot be used, inherited sockets
    without a listener, oddities of certificates."""
    access_log: LogFile | None = None
    status: PreparedStatus = NO_STATUS_SERVER
    control: PreparedControl = NO_CONTROL_SERVER

    def close(self) -> None:
        """Close all sockets, and the access log."""
        close_all(listener.socket for listener in self.listeners)
        self.status.close()
        self.control.close()
        if self.access_log is not None:
            self.access_log.close()


def prepare(
    configuration: Configuration,
    registry: Registry | None = None,
    sockets: Sequence[OpenSocket] | None = None,
) -> Prepared:
    """Build all services, load all certificates and bind all sockets, in the configuration's order.

    *sockets* are those of the listeners if they are open already.  Raises `ConfigurationError` or
    `netsrv.sockets.SocketError`, and then no socket is open.
    """
    listeners = expand(configuration.listeners)
    registry = registry or find_services()
    services = [build_factory(settings, registry) for settings in listeners]
    check_protocols(listeners, services)
    stores = load_certificates(listeners)
    sockets = bind(listeners) if sockets is None else sockets
    status, control = NO_STATUS_SERVER, NO_CONTROL_SERVER
    try:
        status = open_status(configuration.status)
        control = open_control(configuration.control)
        access_log = open_access_log(configuration)
    except BaseException:
        status.close()
        control.close()
        close_all(sockets)
        raise
    prepared = [
        PreparedListener(settings, service, opened, certificates=stores.get(settings.tls))
        for settings, service, opened in zip(listeners, services, sockets, strict=True)
    ]
    oddities = certificate_warnings(stores.values())
    problems = (*registry.problems, *unused_sockets(), *oddities)
    return Prepared(tuple(prepared), problems, access_log, status, control)


def open_access_log(configuration: Configuration) -> LogFile | None:
    """Open the access log, if the configuration has one.  Raises `ConfigurationError`."""
    path = configuration.access_log
    if path is None:
        return None
    from netsrv.observers.accesslogfile import AccessLogFile  # other servers do without

    try:
        return AccessLogFile(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"access log {shorten(path, MAX_SHOWN_PATH)}: {reason}") from error
