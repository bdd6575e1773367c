"""How bytes arrive: the accept loop for streams, the port for datagrams."""
