"""``netsrv top``: a server in a terminal, by the answers of its status address."""
