"""Opens a socket in one call: all four steps, and one line of text for whatever fails.

The result is an `OpenSocket`, which knows the options in effect and removes the file of a
unix socket when it is closed.
"""

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from attrs import define, evolve, field

from netsrv.settings import MAX_SHOWN_PATH, quote_value, shorten
from netsrv.sockets.addresses import InternetAddress, UnixPath, is_link_local, show_sockaddr
from netsrv.sockets.conflicts import outgoing_connection_on
from netsrv.sockets.options import SocketOption
from netsrv.sockets.steps import (
    AddressUnavailable,
    OptionInEffect,
    OptionRefused,
    bind,
    create,
    error_text,
    listen,
    set_options,
)
from netsrv.sockets.unixfiles import file_mode, find_stale_file, is_stale, lock_folder, path_to_bind


class ISocketKeeper(Protocol):
    """Keeps sockets open beyond the end of the process."""

    def release(self, opened: "OpenSocket") -> bool:
        """Stop keeping a socket that is closed; return True if it is kept nevertheless."""


@define
class OpenSocket:
    """A bound socket, the options requested for it, and those in effect."""

    sock: socket.socket
    label: str
    """The requested address, as messages show it: ``tcp localhost:7``."""
    options: tuple[OptionInEffect, ...]
    unix_identity: tuple[str, int, int] | None = None
    """Path, device and inode of the socket file that we created; None if there is none."""
    keeper: ISocketKeeper | None = None
    """What else keeps the socket open; None if it ends with this process."""
    share: Any = None
    """The part of this process in its connections, if others accept from it too: see
    `netsrv.streams.sharing`."""
    sockaddr: Any = field(init=False)
    """The address in effect, as the kernel returns it; it stays valid after the socket fails."""

    def __attrs_post_init__(self) -> None:
        path = self.unix_identity and self.unix_identity[0]
        self.sockaddr = path or self.sock.getsockname()

    @property
    def address(self) -> str:
        """The address in effect, with the port that the kernel chose, as text."""
        return show_sockaddr(self.sockaddr)

    @property
    def host(self) -> str:
        """The numeric host in effect; empty for a unix socket."""
        name = self.sockaddr
        return str(name[0]) if isinstance(name, tuple) else ""

    @property
    def port(self) -> int:
        """The port in effect; 0 for a unix socket."""
        name = self.sockaddr
        return int(name[1]) if isinstance(name, tuple) else 0

    def update_options(
        self, options: Sequence[SocketOption], before: Sequence[SocketOption]
    ) -> list[str]:
        """Set the options that *before* lacks; return the names of those that need a restart."""
        names = {option.name for option in options}
        pending = [option.name for option in before if option.name not in names]
        for option in options:
            if option not in before:
                try:
                    self._update_in_effect(set_options(self.sock, [option]))
                except OptionRefused:
                    pending.append(option.name)
        return pending

    def update_backlog(self, backlog: int) -> None:
        """Listen with another backlog."""
        self._update_in_effect([listen(self.sock, backlog)])

    def _update_in_effect(self, options: Iterable[OptionInEffect]) -> None:
        in_effect = {option.name: option for option in self.options}
        in_effect.update((option.name, option) for option in options)
        self.options = tuple(in_effect.values())

    def chmod(self, mode: int | None) -> bool:
        """Change the permissions of our socket file; return whether that was possible.

        Another file that now stands at its path is left alone.
        """
        if self.unix_identity is None or mode is None:
            return False
        path, device, inode = self.unix_identity
        try:
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != (device, inode):
                return False
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def close(self) -> None:
        """Close the socket and remove its file, if the file is still the one we created.

        An inode number can be reused, so a file on which a server listens now is not ours.  That
        of a socket which is kept open stays.
        """
        kept = self.keeper is not None and self.keeper.release(self)
        self.sock.close()
        if self.unix_identity is not None and not kept:
            path, device, inode = self.unix_identity
            self.unix_identity = None
            try:
                now = os.lstat(path)
                if (now.st_dev, now.st_ino) == (device, inode) and _left_behind(path):
                    os.unlink(path)
            except OSError:
                pass  # already removed, or no longer ours


def _left_behind(path: str) -> bool:
    """Return True if no server listens on a socket file, as far as it can be asked."""
    try:
        return is_stale(path)
    except OSError as error:
        if error.errno is None:  # too long a name in a deep folder: Python does not even try
            return True
        raise


def open_stream(
    address: InternetAddress,
    options: Iterable[SocketOption] = (),
    backlog: int = 1024,
    resolver: "Resolver | None" = None,
) -> OpenSocket:
    """Open a listening TCP socket.  Raises `SocketError`, and then nothing stays open."""
    label = f"tcp {address}"
    family, sockaddr = (resolver or Resolver()).resolve(label, address, socket.SOCK_STREAM)
    return open_stream_at(label, family, sockaddr, options, backlog)


def open_stream_at(
    label: str,
    family: socket.AddressFamily,
    sockaddr: Any,
    options: Iterable[SocketOption],
    backlog: int,
) -> OpenSocket:
    """Open a listening TCP socket at *sockaddr*, in the form that `bind` takes.

    Raises `SocketError`.
    """
    with _opening(label, family, socket.SOCK_STREAM) as sock:
        in_effect = set_options(sock, options)
        bind(sock, sockaddr)
        in_effect.append(listen(sock, backlog))
        return OpenSocket(sock, label, tuple(in_effect))


def open_datagram(
    address: InternetAddress,
    options: Iterable[SocketOption] = (),
    resolver: "Resolver | None" = None,
) -> OpenSocket:
    """Open a UDP socket.  Raises `SocketError`, and then nothing stays open."""
    label = f"udp {address}"
    family, sockaddr = (resolver or Resolver()).resolve(label, address, socket.SOCK_DGRAM)
    return open_datagram_at(label, family, sockaddr, options)


def open_datagram_at(
    label: str, family: socket.AddressFamily, sockaddr: Any, options: Iterable[SocketOption]
) -> OpenSocket:
    """Open a UDP socket at *sockaddr*, in the form that `bind` takes.  Raises `SocketError`."""
    with _opening(label, family, socket.SOCK_DGRAM) as sock:
        in_effect = set_options(sock, options)
        bind(sock, sockaddr)
        return OpenSocket(sock, label, tuple(in_effect))


def open_unix(
    address: UnixPath,
    options: Iterable[SocketOption] = (),
    backlog: int = 1024,
    mode: int | None = None,
) -> OpenSocket:
    """Open a listening unix socket.  Raises `SocketError`, and then nothing stays open.

    A stale socket file, on which no server listens, is replaced; any other file at that path
    is left alone and is an error.  *mode* is the file's permissions, 0 to 0o777; None leaves
    them to the umask.
    """
    label = f"unix {shorten(address.path, MAX_SHOWN_PATH)}"
    with _opening(label, socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        path = os.path.abspath(address.path)  # fails in a deleted working directory
        in_effect = set_options(sock, options)
        with lock_folder(path):
            short = path_to_bind(address.path)
            if find_stale_file(label, path):
                os.unlink(path)
            with file_mode(mode):
                bind(sock, short)
            created = os.lstat(path)
            opened = OpenSocket(sock, label, (), (path, created.st_dev, created.st_ino))
            try:
                in_effect.append(listen(sock, backlog))
                _check_in_place(opened)
            except OSError:
                opened.close()
                raise
        opened.options = tuple(in_effect)
        return opened


def _check_in_place(opened: OpenSocket) -> None:
    """Raise OSError if another server has replaced the socket file meanwhile."""
    assert opened.unix_identity is not None
    path, device, inode = opened.unix_identity
    status = os.lstat(path)
    if (status.st_dev, status.st_ino) != (device, inode):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def resolve(
    label: str, address: InternetAddress, kind: socket.SocketKind
) -> tuple[socket.AddressFamily, Any]:
    """Return family and socket address: the first result of getaddrinfo(3)."""
    if not address.host:
        return socket.AF_INET, ("", address.port)
    try:
        results = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise AddressUnavailable(
            f"{label}: {quote_value(address.host)} is not a host name"
        ) from error
    except socket.gaierror as error:
        text = f"{label}: {error.strerror}"
        raise AddressUnavailable(text, unknown_host=address.host) from error
    family, _, _, _, sockaddr = results[0]
    return family, sockaddr


class Resolver:
    """Looks up host names, each one once.

    A look-up blocks the calling thread.  So a reload calls `resolve` in a thread for all names
    that it will need, and then uses the answers.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[str, socket.SocketKind], tuple[socket.AddressFamily, Any]] = {}

    def resolve(
        self, label: str, address: InternetAddress, kind: socket.SocketKind
    ) -> tuple[socket.AddressFamily, Any]:
        """Return family and socket address: see the function `resolve`."""
        key = address.host, kind
        if key not in self._answers:
            self._answers[key] = resolve(label, evolve(address, port=0), kind)
        family, sockaddr = self._answers[key]
        return family, (sockaddr[0], address.port, *sockaddr[2:])

    def remember(self, address: InternetAddress, opened: OpenSocket) -> None:
        """Answer with the address in effect of a socket that was opened for *address*."""
        sock = opened.sock  # a closed one still tells its family and kind
        key = address.host, socket.SocketKind(sock.type)
        self._answers.setdefault(key, (socket.AddressFamily(sock.family), opened.sockaddr))


@contextmanager
def _opening(
    label: str, family: socket.AddressFamily, kind: socket.SocketKind
) -> Iterator[socket.socket]:
    """Create a socket; an error in a later step closes it and is raised with the label."""
    try:
        sock = create(family, kind)
    except OSError as error:
        raise AddressUnavailable(f"{label}: {error_text(error)}") from error
    try:
        yield sock
    except OptionRefused as error:
        sock.close()
        raise OptionRefused(f"{label}: {error}") from error
    except OSError as error:
        sock.close()
        why = why_unavailable(error, sock.type, label)
        raise AddressUnavailable(f"{label}: {why}", error.errno == errno.EADDRINUSE) from error
    except BaseException:
        sock.close()
        raise


def why_unavailable(error: OSError, kind: socket.SocketKind, label: str) -> str:
    """Explain why an address cannot be bound, with a remedy where there is one."""
    words = error_text(error)
    port = label.rpartition(":")[2]
    if error.errno == errno.EADDRINUSE and port.isdigit():
        holder = outgoing_connection_on(kind, int(port))
        if holder:
            return f"{words}: {holder}"
    if error.errno == errno.EACCES and port.isdigit() and int(port) < 1024:
        return f"{words}: ports below 1024 need root, or CAP_NET_BIND_SERVICE"
    if error.errno == errno.EINVAL and is_link_local(label.partition("[")[2].partition("]")[0]):
        return f"{words}: a link-local address needs its zone, as in [fe80::1%eth0]:7"
    return words
