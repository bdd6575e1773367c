"""The faults of streams and of datagrams."""
