"""Workers: a master that owns the sockets, and processes that serve them."""
