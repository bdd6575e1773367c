"""The services as others build them, to be measured beside ours.

Each program is ``python -m bench.servers.NAME WORK HOST``; WORK is ``accept``, ``echo``,
``chargen``, ``discard`` or ``udp``.  A line tells the port, in the words of netsrv.
"""

ROUND = bytes(0x20 + (line + place) % 95 for line in range(95) for place in range(72))
"""As many characters of chargen as repeat; line ends do not matter to the time."""

CHUNK = ROUND * 9
"""What is written at once, nearly what our service writes."""

RECEIVE_BUFFER = 1 << 20
"""Bytes that wait in a datagram socket: the same for all who are compared."""


def announce(address: tuple[str, int], datagrams: bool, kind: str) -> None:
    """Print that a server is there."""
    what, transport = ("datagrams", "udp") if datagrams else ("connections", "tcp")
    print(f"Waiting for {what} on {transport} {address[0]}:{address[1]} ({kind})", flush=True)
