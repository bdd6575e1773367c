"""The same services in other frameworks, to be measured beside netsrv's.

Each program is ``python -m bench.servers.NAME WORK HOST``; WORK is ``accept``, ``daytime``,
``echo``, ``chargen``, ``discard`` or ``udp``.  The port is printed in a line like netsrv's.
"""

ROUND = bytes(0x20 + (line + column) % 95 for line in range(95) for column in range(72))
"""One period of chargen's characters, without line ends, which do not matter to the time."""

CHUNK = ROUND * 9
"""The bytes of one write, about as many as netsrv's chargen writes."""

GREETING = b"Thursday, November 26, 2026 00:59:09-UTC\r\n"
"""A line of daytime."""

RECEIVE_BUFFER = 1 << 20
"""The receive buffer of a datagram socket in bytes, the same for all contenders."""


def announce(address: tuple[str, int], datagrams: bool, kind: str) -> None:
    """Print that a server waits."""
    peers, transport = ("datagrams", "udp") if datagrams else ("connections", "tcp")
    print(f"Waiting for {peers} on {transport} {address[0]}:{address[1]} ({kind})", flush=True)
