"""Who may come in, how many, and how fast.

Guards are pure: no sockets, no timers, no clock of their own.  The gate asks them.
"""
