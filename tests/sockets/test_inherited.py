"""Inherited sockets: the variables of systemd, the choice of a socket, and its descriptor."""

import os
import socket
from contextlib import ExitStack

import pytest

from netsrv.sockets.addresses import InheritedName, parse_port_address, parse_unix
from netsrv.sockets.inherited import (
    inherited_sockets,
    open_inherited,
    take_from_environment,
    unused_sockets,
)
from netsrv.sockets.options import parse_option
from netsrv.sockets.steps import AddressUnavailable, OptionRefused
from tests.passing import FIRST, datagram, passed, stream, variables

PID = os.getpid()


def opened(transport: str, name: str, *options: str, backlog: int = 16):
    """Open the inherited socket of a name."""
    return open_inherited(
        transport, InheritedName(name), [parse_option(option) for option in options], backlog
    )


def error_of(transport: str, name: str) -> str:
    """Return the line about a socket that cannot be opened."""
    with pytest.raises(AddressUnavailable) as caught:
        opened(transport, name)
    return str(caught.value)


@pytest.mark.parametrize("parse", [parse_port_address, parse_unix])
def test_an_address_names_a_socket(parse):
    """The word systemd and a colon stand before the name."""
    assert parse("systemd:web.socket") == InheritedName("web.socket")
    assert str(parse("systemd:web")) == "systemd:web"


@pytest.mark.parametrize("text", ["systemd:", "systemd:a:b", "systemd:\n", "systemd:ä"])
def test_a_name_that_systemd_cannot_give(text):
    """It is refused before any socket is looked for."""
    with pytest.raises(ValueError, match="the name of a socket"):
        parse_port_address(text)


def test_sockets_are_found_by_name_and_transport(tmp_path):
    """A socket unit gives all of its sockets one name; each transport finds its own."""
    path = str(tmp_path / "s")
    with stream() as tcp, datagram() as udp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        with passed(("web", tcp), ("web", udp), ("web", unix)):
            for transport, sock in (("tcp", tcp), ("udp", udp), ("unix", unix)):
                found = opened(transport, "web")
                assert found.sock.getsockname() == sock.getsockname()
                assert not found.sock.get_inheritable()
                assert not found.sock.getblocking()
                found.close()
    assert os.path.exists(path)


def test_the_variables_are_removed():
    """Child processes do not look for sockets that are not theirs."""
    with stream() as sock, passed(("web", sock)):
        inherited_sockets()
        assert not [name for name in os.environ if name.startswith("LISTEN_")]
        assert not os.get_inheritable(FIRST)


def test_a_socket_is_found_again_after_it_was_closed():
    """What netsrv opens is a duplicate; closing it does not shut the socket down."""
    with stream() as sock, passed(("web", sock)):
        opened("tcp", "web").close()
        again = opened("tcp", "web")
        with socket.create_connection(sock.getsockname()):
            again.sock.setblocking(True)
            again.sock.accept()[0].close()
        again.close()


def test_a_socket_without_a_name_is_found_by_its_position():
    """Without LISTEN_FDNAMES each socket is called unknown; a number counts from 0."""
    with stream() as first, stream() as second, passed(("", first), ("", second)):
        os.environ["LISTEN_FDNAMES"] = ""
        assert [entry.name for entry in inherited_sockets().sockets] == ["unknown"] * 2
        for name, sock in (("0", first), ("1", second), ("unknown", first)):
            found = opened("tcp", name)
            assert found.sock.getsockname() == sock.getsockname()
            found.close()


def test_options_are_read_back():
    """Those that can still be set are set, and the backlog too."""
    with stream() as sock, passed(("web", sock)):
        found = opened("tcp", "web", "SO_RCVBUF=8192", backlog=7)
        in_effect = {option.name: option.in_effect for option in found.options}
        assert in_effect == {"SO_RCVBUF": 16384, "backlog": 7}
        found.close()


def test_an_option_that_comes_too_late():
    """It is refused, unless the socket has that value already."""
    with stream("::1", socket.AF_INET6) as sock, passed(("web", sock)):
        value = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        opened("tcp", "web", f"IPV6_V6ONLY={value}").close()
        with pytest.raises(OptionRefused, match=r"IPV6_V6ONLY: .*: the socket is bound already"):
            opened("tcp", "web", f"IPV6_V6ONLY={1 - value}")


def test_f96_nothing_was_passed():
    """The line says how to start netsrv."""
    assert take_from_environment({}, PID).problem.startswith("systemd has passed no socket")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"LISTEN_PID": "1"}, "the sockets were passed to the process '1' (LISTEN_PID)"),
        ({"LISTEN_FDNAMES": "a:b"}, "LISTEN_FDNAMES has 2 names, and LISTEN_FDS is 1"),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}, f"descriptor {FIRST + 1} is not open"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS is '-1', and not a number of sockets"),
        ({"LISTEN_FDS": "9" * 30}, "and not a number of sockets"),
        ({"LISTEN_FDS": "999999999", "LISTEN_FDNAMES": ""}, "999999999"),
    ],
)
def test_f96_variables_that_do_not_fit(changed, line):
    """The line names the variable, and no socket is used."""
    with stream() as sock, passed(("web", sock)):
        os.environ.update(changed)
        assert line in error_of("tcp", "web")


def test_f96_variables_for_another_process_are_left_alone():
    """They may be meant for a program that this one starts."""
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    take_from_environment(environ, PID)
    assert environ == {"LISTEN_PID": "1", "LISTEN_FDS": "1"}


def test_f96_a_socket_that_does_not_fit(tmp_path):
    """The line says what the socket is, and what would be right."""
    with ExitStack() as stack:
        udp, tcp = stack.enter_context(datagram()), stack.enter_context(stream())
        bound = stack.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        packets = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        file = stack.enter_context((tmp_path / "file").open("w"))
        names = ("dns", udp), ("web", tcp), ("odd", bound), ("seq", packets), ("file", file)
        stack.enter_context(passed(*names))
        udp_port, tcp_port = udp.getsockname()[1], tcp.getsockname()[1]
        assert f"the socket is dns (udp 127.0.0.1:{udp_port}); write --udp" in error_of(
            "tcp", "dns"
        )
        assert (
            f"there is no such socket; systemd has passed dns (udp 127.0.0.1:{udp_port}), web "
            in (error_of("tcp", "wep"))
        )
        assert "write --tcp" in error_of("udp", "1")
        assert "does not listen" in error_of("tcp", "odd")
        assert "SOCK_SEQPACKET" in error_of("unix", "seq")
        assert "file (no socket), which netsrv cannot serve" in error_of("tcp", "file")
        opened("udp", "dns").close()
        assert f"No listener uses the socket web (tcp 127.0.0.1:{tcp_port})" in next(
            line for line in unused_sockets() if "web" in line
        )


def test_an_embedded_server_leaves_the_variables_alone():
    """They are read when a listener asks for a socket, not before."""
    inherited_sockets.cache_clear()
    with variables(["web"], 1):
        assert list(unused_sockets()) == []
        assert os.environ["LISTEN_FDS"] == "1"
