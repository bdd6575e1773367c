"""Who holds a port: read from the kernel's tables."""

import socket

import pytest

from netsrv.sockets.conflicts import outgoing_connection_on

HEAD = "  sl  local_address rem_address   st\n"
SERVER = "   0: 0100007F:C8DF 00000000:0000 0A\n"
CLIENT = "   1: 0100007F:C8DF 0100007F:01BB 01\n"
UNCONNECTED = "   0: 00000000:C8DF 00000000:0000 07\n"


@pytest.mark.parametrize(
    ("kind", "rows", "found"),
    [
        (socket.SOCK_STREAM, CLIENT, True),
        (socket.SOCK_STREAM, SERVER, False),
        (socket.SOCK_STREAM, SERVER + CLIENT, False),
        (socket.SOCK_STREAM, "", False),
        (socket.SOCK_DGRAM, CLIENT, True),
        (socket.SOCK_DGRAM, UNCONNECTED, False),
    ],
)
def test_only_an_outgoing_connection_is_named(tmp_path, kind, rows, found):
    """A port that a server has is not blamed on a connection."""
    name = "tcp" if kind == socket.SOCK_STREAM else "udp"
    (tmp_path / name).write_text(HEAD + rows)
    holder = outgoing_connection_on(kind, 51423, tmp_path)
    assert (holder is not None) == found
    if found:
        assert "an outgoing connection to port 443 has 51423" in holder


def test_without_tables_nobody_is_named(tmp_path):
    """Where the platform has no such tables, nothing is claimed."""
    assert outgoing_connection_on(socket.SOCK_STREAM, 51423, tmp_path) is None
