"""What a server says of itself: plain values, ready for JSON."""

from typing import Any

from attrs import asdict

from netsrv.observers.counters import Counters
from netsrv.server.listeners import Post


def report(post: Post, counters: Counters) -> dict[str, Any]:
    """Describe one listener: its address and options in effect, and its counts.

    Bytes are those of connections that have ended, of live ones, and of datagrams.
    """
    opened = post.prepared.socket
    counts = asdict(counters.listeners[post.prepared.name])
    for connection in post.gate.connections:
        counts["received_bytes"] += connection.received
        counts["sent_bytes"] += connection.sent - connection.unsent
    return {
        "name": post.prepared.name,
        "transport": post.prepared.settings.transport,
        "address": opened.address,
        "service": post.prepared.settings.service_name,
        "options": {
            each.name: {"asked": each.asked, "in_effect": each.in_effect} for each in opened.options
        },
        "counts": counts,
        "kernel_drops": post.listener.kernel_drops,
    }
