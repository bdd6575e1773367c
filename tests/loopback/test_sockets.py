"""The four steps on a real kernel: options requested and in effect, and errors."""

import os
import re
import socket
import stat
from pathlib import Path

import pytest

from netsrv.sockets.addresses import InternetAddress, UnixPath
from netsrv.sockets.opening import open_datagram, open_stream, open_unix, why_unavailable
from netsrv.sockets.options import parse_option
from netsrv.sockets.steps import (
    AddressUnavailable,
    OptionInEffect,
    OptionRefused,
    bind,
    create,
    listen,
    set_options,
)

LOOPBACK = InternetAddress("127.0.0.1", 0)
SOMAXCONN = int(Path("/proc/sys/net/core/somaxconn").read_text())


def test_four_steps_make_a_server():
    """Create, set options, bind, listen: then a client can connect."""
    with create(socket.AF_INET, socket.SOCK_STREAM) as sock:
        assert set_options(sock, [parse_option("SO_REUSEADDR=1")]) == [
            OptionInEffect("SO_REUSEADDR", 1, 1)
        ]
        bind(sock, ("127.0.0.1", 0))
        assert listen(sock, 5) == OptionInEffect("backlog", 5, 5)
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        with socket.create_connection(sock.getsockname(), 10) as client:
            assert client.getpeername() == sock.getsockname()


@pytest.mark.parametrize(
    ("option", "in_effect"),
    [
        ("SO_RCVBUF=100000", 200_000),  # the kernel doubles it (socket(7))
        ("SO_RCVBUF=1", 2_304),  # and has a least size
        ("SO_SNDBUF=100000", 200_000),
        ("SO_LINGER=1:0", (1, 0)),
        ("TCP_DEFER_ACCEPT=5", 7),  # and rounds seconds up to whole retransmissions (tcp(7))
        ("IP_TOS=255", 252),  # and keeps two bits of a stream to itself (ip(7))
    ],
)
def test_what_is_in_effect_stands_beside_what_was_asked_for(option, in_effect):
    """An option is read back as the kernel has changed it."""
    asked = parse_option(option)
    opened = open_stream(LOOPBACK, [asked])
    assert opened.options[0] == OptionInEffect(asked.name, asked.value, in_effect)
    opened.close()


@pytest.mark.parametrize(
    ("asked", "in_effect"), [(0, 0), (1, 1), (SOMAXCONN, SOMAXCONN), (2**31 - 1, SOMAXCONN)]
)
def test_the_backlog_is_cut_without_a_word(asked, in_effect, tmp_path):
    """The kernel limits the backlog to net.core.somaxconn, for TCP and unix sockets."""
    for opened in (
        open_stream(LOOPBACK, [], asked),
        open_unix(UnixPath(str(tmp_path / "s")), [], asked),
    ):
        assert opened.options == (OptionInEffect("backlog", asked, in_effect),)
        opened.close()


def test_options_of_other_kinds_of_sockets_are_skipped():
    """TCP options are not set on UDP sockets, nor IPv6 options on IPv4 ones."""
    asked = [parse_option(each) for each in ("TCP_NODELAY=1", "IPV6_V6ONLY=1", "SO_KEEPALIVE=1")]
    opened = open_datagram(LOOPBACK, asked)
    assert [each.name for each in opened.options] == ["SO_KEEPALIVE"]
    opened.close()


def test_a_value_that_the_kernel_refuses_is_one_line(recwarn):
    """The error has the place, the option and the errno's text; no socket stays open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OptionRefused) as caught:
        open_stream(LOOPBACK, [parse_option("TCP_MAXSEG=1")])
    assert str(caught.value) == "tcp 127.0.0.1:0: TCP_MAXSEG: Invalid argument"
    with pytest.raises(OptionRefused, match="SO_BINDTODEVICE: No such device"):
        open_datagram(LOOPBACK, [parse_option("SO_BINDTODEVICE=nosuch0")])
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_address_that_is_taken_is_one_line():
    """F91: the error has the place and the errno's text, for TCP and UDP."""
    for open_one, kind in ((open_stream, "tcp"), (open_datagram, "udp")):
        first = open_one(LOOPBACK)
        with pytest.raises(AddressUnavailable) as caught:
            open_one(InternetAddress("127.0.0.1", first.port))
        assert str(caught.value) == f"{kind} 127.0.0.1:{first.port}: Address already in use"
        assert caught.value.in_use
        first.close()


def test_a_port_that_an_outgoing_connection_has_is_told_from_a_server():
    """F92: the message names the connection and the kernel's range of ports."""
    server = open_stream(LOOPBACK)
    with socket.create_connection(("127.0.0.1", server.port)) as outgoing:
        port = outgoing.getsockname()[1]
        with pytest.raises(AddressUnavailable) as caught:
            open_stream(InternetAddress("", port), [parse_option("SO_REUSEADDR=1")])
    # Another process may have the same port at another address: either one may be named.
    assert re.search(rf"an outgoing connection to port \d+ has {port},", str(caught.value))
    assert "ip_local_port_range" in str(caught.value)
    server.close()


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("name.invalid", "Name or service not known|Temporary failure in name resolution"),
        ("a" * 64 + ".example", "is not a host name"),
    ],
)
def test_a_host_that_is_not_here_is_one_line(host, words):
    """F91: the error for an absent address or an unknown name has the place."""
    with pytest.raises(AddressUnavailable, match=rf"^tcp {host}:0: .*({words})") as caught:
        open_stream(InternetAddress(host, 0))
    assert not caught.value.in_use


def test_low_ports_need_a_privilege():
    """F91: the error for EACCES below 1024 names the privilege."""
    error = PermissionError(13, "Permission denied")
    why = why_unavailable(error, socket.SOCK_STREAM, "tcp 0.0.0.0:80")
    assert why == "Permission denied: ports below 1024 need root, or CAP_NET_BIND_SERVICE"
    assert why_unavailable(error, socket.SOCK_STREAM, "unix /80") == "Permission denied"


def test_one_socket_takes_both_families_unless_told_otherwise():
    """`[::]` accepts IPv4 too, unless IPV6_V6ONLY is 1."""
    for value, taken in ((0, True), (1, False)):
        opened = open_stream(InternetAddress("::", 0), [parse_option(f"IPV6_V6ONLY={value}")])
        assert opened.host == "::"
        with socket.socket() as client:
            assert (client.connect_ex(("127.0.0.1", opened.port)) == 0) == taken
        opened.close()


def test_a_unix_socket_is_made_and_removed(tmp_path):
    """The file exists while the socket is open."""
    path = tmp_path / "s"
    opened = open_unix(UnixPath(str(path)))
    assert path.is_socket()
    assert (opened.address, opened.host, opened.port) == (str(path), "", 0)
    opened.close()
    opened.close()
    assert not path.exists()


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(tmp_path):
    """F95: only a file without a listener is replaced."""
    place = UnixPath(str(tmp_path / "s"))
    dead = open_unix(place)
    dead.sock.close()
    live = open_unix(place, [], 0)
    for _ in range(3):  # each try waits in the backlog, so that the last finds it full
        with pytest.raises(AddressUnavailable, match="a server listens there") as caught:
            open_unix(place)
        assert caught.value.in_use
    dead.close()
    assert (tmp_path / "s").is_socket()
    live.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link", "datagram socket"])
def test_what_is_no_stream_socket_is_left_alone(tmp_path, kind):
    """F95: a path that is not a stale stream socket is refused, and stays as it is."""
    path = tmp_path / "s"
    other = tmp_path / "other"
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    {
        "file": lambda: path.write_text("precious"),
        "folder": path.mkdir,
        "link": lambda: (other.write_text("precious"), path.symlink_to(other)),
        "dangling link": lambda: path.symlink_to(other),
        "datagram socket": lambda: datagrams.bind(str(path)),
    }[kind]()
    before = os.lstat(path)
    with pytest.raises(AddressUnavailable, match="left alone"):
        open_unix(UnixPath(str(path)))
    assert os.lstat(path).st_ino == before.st_ino
    datagrams.close()


def test_a_socket_file_that_another_server_listens_at_is_not_removed(tmp_path):
    """F95: a new socket file may get the inode of the one that it replaced."""
    place = UnixPath(str(tmp_path / "s"))
    ours = open_unix(place)
    (tmp_path / "s").unlink()
    theirs = open_unix(place)
    ours.close()
    assert (tmp_path / "s").is_socket()
    theirs.close()


def test_a_foreign_file_is_not_removed(tmp_path):
    """F95: at the end only the file that we created is removed."""
    path = tmp_path / "s"
    opened = open_unix(UnixPath(str(path)))
    path.unlink()
    path.write_text("foreign")
    opened.close()
    assert path.read_text() == "foreign"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0])
@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_a_socket_file_has_its_permissions_from_the_start(mode, umask, tmp_path):
    """The file has the configured mode whatever the umask, and the umask stays."""
    before = os.umask(umask)
    try:
        opened = open_unix(UnixPath(str(tmp_path / "s")), mode=mode)
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
        opened.close()
        with pytest.raises(AddressUnavailable):
            open_unix(UnixPath(str(tmp_path / "no" / "s")), mode=mode)
    finally:
        left = os.umask(before)
    assert left == umask


@pytest.mark.parametrize(
    ("path", "words"), [("x" * 200, "too long"), ("no/such/folder/s", "No such file")]
)
def test_a_path_that_cannot_be_is_one_line(tmp_path, monkeypatch, path, words):
    """The error for a path that is too long, or in no folder, has the reason."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AddressUnavailable, match=rf"^unix {path}: .*{words}"):
        open_unix(UnixPath(path))
