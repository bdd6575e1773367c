"""Faults on purpose: what a peer or a network may do, done by the server as it is asked.

`fault` decides which connections and datagrams a fault hits, `connection` holds the faults of a
live connection, `stages` and the modules beside it are the faults themselves, and `methods` has
them for the servers of tests.
"""
