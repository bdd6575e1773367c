"""Why a port cannot be bound: an outgoing connection may have it.

The kernel takes the ports of outgoing connections from a range (ip(7),
``ip_local_port_range``), and netsrv's 51423 lies in it.  ``Address already in
use`` sends users looking for another server; if it is a connection instead, this module
finds it in the tables of ``/proc/net`` (proc(5)).
"""

import socket
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"


def outgoing_connection_on(
    kind: socket.SocketKind, port: int, tables: Path = Path("/proc/net")
) -> str | None:
    """Describe the outgoing use of *port*; return None if a server has it, or it is unknown."""
    name = "tcp" if kind == socket.SOCK_STREAM else "udp"
    rows = [row for row in _rows(tables, name) if row[0] == port]
    if any(state == _LISTEN or (name == "udp" and peer == 0) for _, peer, state in rows):
        return None
    peers = [peer for _, peer, _ in rows if peer]
    if not peers:
        return None
    return (
        f"an outgoing connection to port {peers[0]} has {port}, which lies in the kernel's range "
        "for them (net.ipv4.ip_local_port_range); try again later, take a port outside of that "
        "range, or reserve it with net.ipv4.ip_local_reserved_ports"
    )


def _rows(tables: Path, name: str) -> Iterator[tuple[int, int, str]]:
    """Yield local port, remote port and state of each socket that the kernel lists."""
    for table in (tables / name, tables / f"{name}6"):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, remote, state = fields[1:4]
            yield int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16), state
