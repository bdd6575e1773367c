"""What clients of a server in memory receive."""


def arrivals(server, client, milliseconds):
    """Return what a client receives, each with the time in milliseconds since now."""
    events = []
    for millisecond in range(milliseconds + 1):
        if data := client.read():
            events.append((millisecond, data))
        server.advance(0.001)
    return events


def echoed(server, data=b"hello"):
    """Return what a new client gets back, and how its connection has ended."""
    client = server.connect()
    client.send(data)
    return client.received, client.close_kind
