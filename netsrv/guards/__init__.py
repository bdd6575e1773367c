"""Decisions about connections and datagrams: access, capacity, rates, amplification.

Guards are pure: no sockets, no timers, no clock of their own.  The gate asks them.
"""
