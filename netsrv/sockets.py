"""A server's socket in four steps: create, set options, bind, listen::

    sock = create(AF_INET, SOCK_STREAM)              # a socket: one end of a conversation
    set_options(sock, [parse_option("SO_REUSEADDR=1")])   # how it shall behave
    bind(sock, ("", 51423))                          # the address where clients find it
    listen(sock, 1024)                               # clients may connect, and wait to be accepted

A socket for datagrams (UDP) needs only the first three: nobody connects to it.
`open_stream`, `open_datagram` and `open_unix` do all the steps in one go, and
say in one line what failed.  Who is served on a socket is no business of this
module.
"""

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from netsrv.addresses import InternetAddress, UnixPath, show_sockaddr
from netsrv.portholders import outgoing_holder
from netsrv.socketoptions import SocketOption, Value

_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_DROPS = 8  # SK_MEMINFO_DROPS of linux/sock_diag.h


class SocketError(Exception):
    """A socket cannot be opened; the text is one line for the user."""


class AddressUnavailable(SocketError):
    """The address cannot be had: in use, absent, forbidden, not resolved."""

    def __init__(self, text: str, in_use: bool = False) -> None:
        super().__init__(text)
        self.in_use = in_use
        """Whether somebody else has it."""


class OptionRefused(SocketError):
    """The kernel does not take an option's value, or knows no such option."""


@frozen
class OptionInEffect:
    """What was asked for beside what the kernel made of it."""

    name: str
    asked: Value
    in_effect: Value | None
    """None where it cannot be read back."""


@define
class OpenSocket:
    """A bound socket, with what was asked for and what is in effect."""

    sock: socket.socket
    place: str
    """What the user wrote, as messages show it: ``tcp localhost:7``."""
    options: tuple[OptionInEffect, ...]
    unix_file: tuple[str, int, int] | None = None
    """Path, device and inode of the socket file that we made."""
    sockaddr: Any = field(init=False)
    """The address in effect, as the kernel gives it; known also when the socket has died."""

    def __attrs_post_init__(self) -> None:
        self.sockaddr = self.sock.getsockname()

    @property
    def address(self) -> str:
        """The address in effect, with the port that the kernel chose."""
        return show_sockaddr(self.sockaddr)

    @property
    def host(self) -> str:
        """The host in effect, as a number; empty for a unix socket."""
        name = self.sockaddr
        return str(name[0]) if isinstance(name, tuple) else ""

    @property
    def port(self) -> int:
        """The port in effect; 0 for a unix socket."""
        name = self.sockaddr
        return int(name[1]) if isinstance(name, tuple) else 0

    def permit(self, mode: int | None) -> bool:
        """Give our socket file other permissions; tell whether that could be done.

        What stands at its path by now, if it is something else, is left alone.
        """
        if self.unix_file is None or mode is None:
            return False
        path, device, inode = self.unix_file
        try:
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino) != (device, inode):
                return False
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def close(self) -> None:
        """Close the socket and remove its file, if it is still the one we made.

        A number of a file can be given to its successor, so a file at which somebody
        listens now is not ours either.
        """
        self.sock.close()
        if self.unix_file is not None:
            path, device, inode = self.unix_file
            self.unix_file = None
            try:
                now = os.lstat(path)
                if (now.st_dev, now.st_ino) == (device, inode) and _nobody_listens(path):
                    os.unlink(path)
            except OSError:
                pass  # gone, or no longer ours to remove


# The four steps


def create(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    """Step 1: ask the kernel for a socket; *kind* is SOCK_STREAM or SOCK_DGRAM.

    The socket does not block, since a reactor waits for it, and is closed in child processes.
    """
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    return sock


def set_options(sock: socket.socket, options: Iterable[SocketOption]) -> list[OptionInEffect]:
    """Step 2: set the options that belong to such a socket, and read each one back.

    Connections inherit them from the socket that listens.  An option of another
    kind of socket is skipped.  Raises `OptionRefused`.
    """
    taken = []
    for option in options:
        if option.belongs_to(sock):
            try:
                option.set(sock)
            except OSError as error:
                raise OptionRefused(f"{option.name}: {_words(error)}") from error
            taken.append(option)
    return [OptionInEffect(each.name, each.value, _read_back(sock, each)) for each in taken]


def bind(sock: socket.socket, sockaddr: Any) -> None:
    """Step 3: give the socket the address at which clients find it.

    ``(host, port)`` for IPv4, ``(host, port, flow, scope)`` for IPv6, a path for a unix
    socket.  Raises OSError as bind(2) does.
    """
    sock.bind(sockaddr)


def listen(sock: socket.socket, backlog: int) -> OptionInEffect:
    """Step 4: let up to *backlog* clients connect and wait until they are accepted.

    The kernel cuts the number to its own limit without a word (listen(2)), so what
    is in effect comes back.
    """
    sock.listen(backlog)
    return OptionInEffect("backlog", backlog, _backlog_in_effect(sock, backlog))


# All steps in one go


def open_stream(
    address: InternetAddress, options: Iterable[SocketOption] = (), backlog: int = 1024
) -> OpenSocket:
    """Open a TCP socket that listens.  Raises `SocketError`; then nothing stays open."""
    place = f"tcp {address}"
    family, sockaddr = resolve(place, address, socket.SOCK_STREAM)
    with _steps(place, family, socket.SOCK_STREAM) as sock:
        in_effect = set_options(sock, options)
        bind(sock, sockaddr)
        in_effect.append(listen(sock, backlog))
        return OpenSocket(sock, place, tuple(in_effect))


def open_datagram(address: InternetAddress, options: Iterable[SocketOption] = ()) -> OpenSocket:
    """Open a UDP socket.  Raises `SocketError`; then nothing stays open."""
    place = f"udp {address}"
    family, sockaddr = resolve(place, address, socket.SOCK_DGRAM)
    return open_datagram_at(place, family, sockaddr, options)


def open_datagram_at(
    place: str, family: socket.AddressFamily, sockaddr: Any, options: Iterable[SocketOption]
) -> OpenSocket:
    """Open a UDP socket at a socket address, as `bind` takes it.  Raises `SocketError`."""
    with _steps(place, family, socket.SOCK_DGRAM) as sock:
        in_effect = set_options(sock, options)
        bind(sock, sockaddr)
        return OpenSocket(sock, place, tuple(in_effect))


def open_unix(
    address: UnixPath,
    options: Iterable[SocketOption] = (),
    backlog: int = 1024,
    mode: int | None = None,
) -> OpenSocket:
    """Open a unix socket that listens.  Raises `SocketError`; then nothing stays open.

    A socket file at which nobody listens any more is replaced; anything else at
    that path is left alone and refused.  *mode* is the file's permissions, 0 to 0o777;
    None leaves them to the umask.
    """
    place = f"unix {address}"
    path = os.path.abspath(address.path)
    with _steps(place, socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        in_effect = set_options(sock, options)
        if unix_file_state(place, path) == "stale":
            os.unlink(path)
        with _permissions(mode):
            bind(sock, path)
        made = os.lstat(path)
        opened = OpenSocket(sock, place, (), (path, made.st_dev, made.st_ino))
        try:
            in_effect.append(listen(sock, backlog))
        except OSError:
            opened.close()
            raise
        opened.options = tuple(in_effect)
        return opened


@contextmanager
def _permissions(mode: int | None) -> Iterator[None]:
    """Have socket files made with *mode*.

    There is no moment at which a file has other permissions, and no chmod, which would
    follow a link that somebody has put in its place.
    """
    if mode is None:
        yield
        return
    before = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(before)


def resolve(
    place: str, address: InternetAddress, kind: socket.SocketKind
) -> tuple[socket.AddressFamily, Any]:
    """Find family and socket address: the first result of getaddrinfo(3)."""
    if not address.host:
        return socket.AF_INET, ("", address.port)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise AddressUnavailable(f"{place}: {address.host!r} is not a host name") from error
    except socket.gaierror as error:
        raise AddressUnavailable(f"{place}: {error.strerror}") from error
    family, _, _, _, sockaddr = found[0]
    return family, sockaddr


def unix_file_state(place: str, path: str) -> str:
    """Tell whether *path* is ``absent`` or ``stale``: a socket at which nobody listens.

    Raises `AddressUnavailable` for anything else, which is not ours to remove.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        raise AddressUnavailable(f"{place}: {_words(error)}") from error
    if not stat.S_ISSOCK(mode):
        raise AddressUnavailable(f"{place}: the path exists and is not a socket; it is left alone")
    try:
        if _nobody_listens(path):
            return "stale"
    except OSError as error:
        raise AddressUnavailable(f"{place}: {_words(error)}; it is left alone") from error
    words = os.strerror(errno.EADDRINUSE)
    raise AddressUnavailable(f"{place}: {words}: a server listens there", in_use=True)


def kernel_drops(sock: socket.socket) -> int | None:
    """How many datagrams the kernel has dropped at this socket, most for want of room.

    It is the number that ``ss -u -m`` shows behind ``d`` (sock_diag(7)).  None where the kernel
    does not tell, or the socket is closed.
    """
    if sys.platform != "linux":
        return None
    try:
        told = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(told)[_DROPS])
    except (OSError, struct.error):
        return None


def _nobody_listens(path: str) -> bool:
    """Try to connect to a unix socket.  Raises OSError if that tells nothing."""
    with create(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass  # its backlog is full, so somebody listens
    return False


@contextmanager
def _steps(
    place: str, family: socket.AddressFamily, kind: socket.SocketKind
) -> Iterator[socket.socket]:
    """Create a socket; whatever fails in the steps after it closes it and names the place."""
    try:
        sock = create(family, kind)
    except OSError as error:
        raise AddressUnavailable(f"{place}: {_words(error)}") from error
    try:
        yield sock
    except OptionRefused as error:
        sock.close()
        raise OptionRefused(f"{place}: {error}") from error
    except OSError as error:
        sock.close()
        why = why_unavailable(error, sock.type, place)
        raise AddressUnavailable(f"{place}: {why}", error.errno == errno.EADDRINUSE) from error
    except BaseException:
        sock.close()
        raise


def why_unavailable(error: OSError, kind: socket.SocketKind, place: str) -> str:
    """Put into words why an address cannot be had, with what would help."""
    words = _words(error)
    port = place.rpartition(":")[2]
    if error.errno == errno.EADDRINUSE and port.isdigit():
        holder = outgoing_holder(kind, int(port))
        if holder:
            return f"{words}: {holder}"
    if error.errno == errno.EACCES and port.isdigit() and int(port) < 1024:
        return f"{words}: ports below 1024 need root, or CAP_NET_BIND_SERVICE"
    return words


def _words(error: OSError) -> str:
    """The errno's own words, or those of an error that Python raises itself."""
    return error.strerror or str(error)


def _read_back(sock: socket.socket, option: SocketOption) -> Value | None:
    try:
        return option.get(sock)
    except OSError:
        return None


def _backlog_in_effect(sock: socket.socket, backlog: int) -> int | None:
    """Ask TCP_INFO of a listening socket (tcpi_sacked), or apply listen(2)'s rule."""
    if sys.platform != "linux":
        return None
    if sock.family != socket.AF_UNIX:
        tcp_info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return int(struct.unpack_from("I", tcp_info, 28)[0])
    try:
        return min(backlog, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    except (OSError, ValueError):
        return None
