"""The service manager of a process that netsrv owns: systemd, if it offers anything.

An embedded server does not touch its program's variables, and sends nothing.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from netsrv.config.model import Configuration
from netsrv.interfaces import ListenerInfo
from netsrv.server.binding import expand
from netsrv.server.server import Server
from netsrv.server.stored import claim_stored
from netsrv.settings import count_of
from netsrv.sockets.addresses import InheritedName
from netsrv.sockets.opening import OpenSocket
from netsrv.systemd.manager import ManagerNotifications
from netsrv.systemd.notifier import Notifier
from netsrv.systemd.store import DescriptorStore
from netsrv.systemd.variables import take_variables

if TYPE_CHECKING:
    from netsrv.workers.master import Master


class ServiceManager:
    """What the environment offers, which is taken from it."""

    def __init__(self) -> None:
        self._variables = take_variables(os.environ, os.getpid())
        self._notifier = Notifier(self._variables.notify_socket)
        self._notifications: ManagerNotifications | None = None

    def claim_sockets(self, configuration: Configuration) -> None:
        """Claim the stored sockets for the listeners, and close those that none can have.

        The manager has closed them too before the listeners are bound.
        """
        unclaimed = claim_stored(expand(configuration.listeners))
        for passed in unclaimed:
            self._notifier.send("FDSTOREREMOVE=1", f"FDNAME={passed.name}")
            if passed.sock is not None:
                passed.sock.close()
        if unclaimed:
            self._notifier.wait_until_read()

    def attach(self, reactor: Any, server: Server) -> None:
        """Notify the manager of what *server* does from now on."""
        if not self._notifier.enabled:
            return

        def socket_of(listener: ListenerInfo) -> tuple[str, OpenSocket] | None:
            for running in server.listeners:
                if running.listener_info is listener and _is_storable(running.settings):
                    return running.settings.transport, running.socket
            return None

        store = DescriptorStore(self._notifier, self._variables.store_size)
        self._notifications = notifications = ManagerNotifications(
            reactor,
            self._notifier,
            self._variables.watchdog_timeout,
            store,
            partial(describe, server),
            socket_of,
        )
        if self._variables.store_size:
            server.observers.add(notifications)
        reactor.callWhenRunning(notifications.ready)
        reactor.addSystemEventTrigger("before", "shutdown", notifications.stopping)
        reactor.addSystemEventTrigger("after", "shutdown", notifications.stop)

    def attach_master(self, reactor: Any, master: Master) -> None:
        """Notify the manager of what *master* does; the store is for servers without workers."""
        if not self._notifier.enabled:
            return
        notifications = ManagerNotifications(
            reactor,
            self._notifier,
            self._variables.watchdog_timeout,
            DescriptorStore(self._notifier, 0),
            master.describe,
            lambda listener: None,
        )
        master.manager = notifications
        reactor.addSystemEventTrigger("before", "shutdown", notifications.stopping)
        reactor.addSystemEventTrigger("after", "shutdown", notifications.stop)

    def reload_changed(self, reloading: bool) -> None:
        """Say that a reload begins, or has ended."""
        if self._notifications is not None:
            if reloading:
                self._notifications.reloading()
            else:
                self._notifications.reloaded()


def _is_storable(settings: Any) -> bool:
    """Return True unless systemd has the socket anyway, or its port is another at each start."""
    return not isinstance(settings.address, InheritedName) and settings.port != 0


def describe(server: Server, draining: bool) -> str:
    """Return the state of a server: ``Serving 2 listeners: 3 connections, 9 accepted``."""
    connections = count_of(server.connections, "connection")
    if draining:
        return f"Draining: {connections}"
    counts = server.counters.listeners.values()
    accepted = sum(count.accepted for count in counts)
    datagrams = sum(count.datagrams_received for count in counts)
    listeners = count_of(len(server.listeners), "listener")
    total = f"{accepted} accepted"
    if datagrams:
        total += f", {count_of(datagrams, 'datagram')}"
    return f"Serving {listeners}: {connections}, {total}"
