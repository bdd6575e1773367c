"""The sockets of the master: for each listener one for every slot, or one for all.

The kernel spreads the peers of an address over its sockets (``SO_REUSEPORT``).  A socket stays open
for the life of the master, whichever worker serves it: so the peers that wait in its queue are
served by the next worker, and the order of the sockets, by which a program steers, never changes.
"""

import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain

from attrs import define, evolve

from netsrv.config.model import ListenerSettings, Transport, WorkerSelection
from netsrv.interfaces import ListenerInfo
from netsrv.server.binding import bind, close_all, expand, info_of
from netsrv.sockets import steering
from netsrv.sockets.addresses import InheritedName
from netsrv.sockets.opening import OpenSocket, open_datagram_at, open_stream_at


@define(eq=False)
class SharedListener:
    """A listener and its sockets."""

    index: int
    """The index of the listener in the configuration."""
    settings: ListenerSettings
    """The settings, with the address that was asked for."""
    sockets: list[OpenSocket]
    """One for each slot, or a single one, which all workers serve."""
    block: int | None = None
    """Where its limits are counted, in the memory that workers share; None if it has none."""

    @property
    def info(self) -> ListenerInfo:
        """A new identity for it, with the address in effect."""
        return info_of(self.settings, self.sockets[0])

    @property
    def spread(self) -> bool:
        """True if there is a socket for each slot."""
        return len(self.sockets) > 1

    @property
    def shared(self) -> bool:
        """True if all workers accept connections from its only socket."""
        return not self.spread and self.settings.transport.is_stream

    def socket_of(self, slot: int) -> OpenSocket:
        """Return the socket of a slot."""
        return self.sockets[slot] if self.spread else self.sockets[0]

    def chmod(self) -> None:
        """Give the file of a unix socket the permissions of the settings."""
        for opened in self.sockets:
            opened.chmod(self.settings.mode)

    def serves(self, slot: int) -> bool:
        """Return True if a slot is to serve its socket: one socket for datagrams has one reader.

        Two workers would split the flows of its peers.
        """
        return self.spread or slot == 0 or self.settings.transport.is_stream


def open_shared(
    listeners: Sequence[tuple[int, ListenerSettings]], slots: int, selection: WorkerSelection
) -> list[SharedListener]:
    """Open the sockets of *listeners*, each with its index, for so many *slots*, all or none.

    They are bound alone first: the kernel would let them join the sockets of another server of the
    same user.  Raises `ConfigurationError` or `netsrv.sockets.SocketError`.
    """
    opened = bind([settings for _, settings in listeners])
    shared = [
        SharedListener(index, settings, [alone])
        for (index, settings), alone in zip(listeners, opened, strict=True)
    ]
    try:
        for listener in shared:
            if _can_spread(listener.settings, selection):
                _spread(listener, slots)
        for listener in shared:
            steer(listener, selection)
    except BaseException:
        close_shared(shared)
        raise
    return shared


def reopen_shared(
    before: Iterable[SharedListener],
    listeners: Sequence[tuple[int, ListenerSettings]],
    slots: int,
    selection: WorkerSelection,
) -> list[SharedListener]:
    """Return what serves *listeners*: the sockets of *before* by their addresses, and new ones.

    Raises as `open_shared`, and then no socket is opened, and none is closed.
    """
    free: defaultdict[str, list[SharedListener]] = defaultdict(list)
    for listener in before:
        free[listener.settings.address_label].append(listener)
    kept: dict[int, SharedListener] = {}
    for position, (index, settings) in enumerate(listeners):
        if free[settings.address_label]:
            sockets = free[settings.address_label].pop(0).sockets
            kept[position] = SharedListener(index, settings, sockets)
    wanted = [entry for position, entry in enumerate(listeners) if position not in kept]
    added = iter(open_shared(wanted, slots, selection))
    return [kept.get(position) or next(added) for position in range(len(listeners))]


def only_in(
    first: Iterable[SharedListener], second: Iterable[SharedListener]
) -> list[SharedListener]:
    """Return the listeners of *first* whose sockets *second* does not have."""
    known = {id(listener.sockets) for listener in second}
    return [listener for listener in first if id(listener.sockets) not in known]


def expand_indexed(listeners: Iterable[ListenerSettings]) -> list[tuple[int, ListenerSettings]]:
    """Return a listener for each socket, with its index: systemd may pass several of one name."""
    return [(index, one) for index, settings in enumerate(listeners) for one in expand([settings])]


def add_slots(listeners: Iterable[SharedListener], slots: int, selection: WorkerSelection) -> None:
    """Open the sockets that listeners with one for each slot lack of *slots*; all or none.

    Raises `netsrv.sockets.SocketError`.
    """
    growing = [one for one in listeners if one.spread and len(one.sockets) < slots]
    added: list[list[OpenSocket]] = []
    for listener in growing:
        with suppress(OSError):  # it has no program
            steering.detach(listener.sockets[0].sock)
    try:
        for listener in growing:
            added.append([])
            for _ in range(len(listener.sockets), slots):
                added[-1].append(_open_member(listener))
    except BaseException:
        close_all(chain.from_iterable(added))
        raise
    else:
        for listener, opened in zip(growing, added, strict=True):
            listener.sockets += opened
    finally:
        for listener in growing:
            steer(listener, selection)


def close_shared(listeners: Iterable[SharedListener]) -> None:
    """Close the sockets of listeners."""
    for listener in listeners:
        close_all(listener.sockets)


def steer(listener: SharedListener, selection: WorkerSelection) -> None:
    """Have the kernel choose among the sockets of a listener as *selection* says."""
    if not listener.spread:
        return
    count = len(listener.sockets)
    program = None
    if selection is WorkerSelection.SOURCE or not listener.settings.transport.is_stream:
        program = steering.by_source(count)
    elif selection is WorkerSelection.CPU:
        program = steering.by_cpu(count)
    if program is not None:
        steering.attach(listener.sockets[0].sock, program)


def _can_spread(settings: ListenerSettings, selection: WorkerSelection) -> bool:
    if not steering.CAN_SHARE or isinstance(settings.address, InheritedName):
        return False
    if settings.transport is Transport.UDP:
        return True
    return settings.transport is Transport.TCP and selection is not WorkerSelection.SHARED


def _spread(listener: SharedListener, slots: int) -> None:
    """Replace the only socket of a listener by one for each slot."""
    [alone] = listener.sockets
    alone.close()
    listener.sockets = []
    for _ in range(slots):
        listener.sockets.append(_open_member(listener, alone))


def _open_member(listener: SharedListener, model: OpenSocket | None = None) -> OpenSocket:
    """Open another socket at the address of a listener, which that of *model* has."""
    model = listener.sockets[0] if model is None else model
    settings = evolve(listener.settings, reuse_port=True)
    family, options = socket.AddressFamily(model.sock.family), settings.all_options()
    if settings.transport.is_stream:
        return open_stream_at(model.label, family, model.sockaddr, options, settings.backlog)
    return open_datagram_at(model.label, family, model.sockaddr, options)
