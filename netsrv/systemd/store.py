"""The descriptor store of the service manager (systemd.service(5), FileDescriptorStoreMax=).

The manager keeps a duplicate of each listening socket.  So while the unit restarts no socket is
closed: clients wait in its backlog, datagrams in its buffer.  The next process gets the sockets
with those of socket units, see `netsrv.sockets.inherited`.
"""

from urllib.parse import quote

from twisted.logger import Logger

from netsrv.settings import count_of
from netsrv.sockets.inherited import MAX_STORED_NAME, STORED
from netsrv.sockets.opening import OpenSocket
from netsrv.systemd.notifier import Notifier


class DescriptorStore:
    """Keeps sockets in a store for *size* descriptors.  An `ISocketKeeper`."""

    log = Logger()

    def __init__(self, notifier: Notifier, size: int) -> None:
        self._notifier = notifier
        self._size = size
        self._stored: dict[int, tuple[str, OpenSocket]] = {}
        self._frozen = False
        self._warned = False

    def keep(self, transport: str, opened: OpenSocket) -> None:
        """Store a socket that a listener has opened, under a name of its own."""
        name = stored_name(transport, opened)
        if id(opened) in self._stored or len(name) > MAX_STORED_NAME:
            return
        if len(self._stored) >= self._size:
            self._warn()
        elif self._notifier.send(
            "FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptors=[opened.sock.fileno()]
        ):
            self._stored[id(opened)] = (name, opened)
            opened.keeper = self

    def release(self, opened: OpenSocket) -> bool:
        """Remove a socket that is closed; return True if it is kept instead, after `freeze`."""
        if self._frozen:
            return id(opened) in self._stored
        opened.keeper = None
        if entry := self._stored.pop(id(opened), None):
            self._notifier.send("FDSTOREREMOVE=1", f"FDNAME={entry[0]}")
        return False

    def freeze(self) -> None:
        """Keep the sockets that are stored now when they are closed: the server ends."""
        self._frozen = True

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            size = count_of(self._size, "descriptor")
            line = "The descriptor store takes {size}: other listeners are closed by a restart"
            self.log.warn(line, size=size)


def stored_name(transport: str, opened: OpenSocket) -> str:
    """Return the name of a socket in the store: its address, or the identity of its file."""
    address = opened.address
    if opened.unix_identity is not None:
        _, device, inode = opened.unix_identity
        address = f"{device}-{inode}"
    return f"{STORED}{transport}/{quote(address, safe='[]')}"
