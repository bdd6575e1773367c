"""Prepares one more listener for a server that runs."""

from collections.abc import Sequence

from netsrv.config.model import ConfigurationError, ListenerSettings, Transport
from netsrv.registry import Registry
from netsrv.server.binding import check_options_fit, expand, open_socket, try_options
from netsrv.server.certificates import load_certificates
from netsrv.server.factories import build_factory, check_protocols
from netsrv.server.listener_set import certificates_in_use
from netsrv.server.listeners import RunningListener
from netsrv.server.prepare import PreparedListener
from netsrv.sockets.addresses import SAME
from netsrv.sockets.opening import Resolver


def prepare_listener(
    settings: ListenerSettings, running: Sequence[RunningListener], registry: Registry
) -> PreparedListener:
    """Build the service of one more listener, and bind its socket.

    Raises `ConfigurationError` or `netsrv.sockets.SocketError`, and then no socket stays open.
    """
    if (count := len(expand([settings]))) > 1:
        raise ConfigurationError(
            f"{settings.address_label}: systemd has passed {count} sockets of this name; add one "
            "by its position, as in systemd:0"
        )
    service, resolver = build_factory(settings, registry), Resolver()
    if not settings.transport.is_stream:
        check_protocols(
            [*(listener.settings for listener in running), settings],
            [*(listener.service for listener in running), service],
        )
    check_options_fit((settings,), [(settings, try_options(settings, resolver))])
    tcp = (listener.port for listener in running if listener.settings.transport is Transport.TCP)
    same = next(tcp, None) if settings.port == SAME else None
    store = load_certificates((settings,), certificates_in_use(running)).get(settings.tls)
    opened = open_socket(settings, same, resolver)
    return PreparedListener(settings, service, opened, certificates=store)
