"""Time limits of the tests; nothing waits that long when all is well.

A machine under load may need more: the environment variable NETSRV_TEST_TIMEOUT_SCALE, 1 by
default, multiplies every limit (``NETSRV_TEST_TIMEOUT_SCALE=5 pytest``).
"""

import os

SCALE = float(os.environ.get("NETSRV_TEST_TIMEOUT_SCALE", "1"))


def scaled(seconds: float) -> float:
    """Return a time limit of *seconds* as it applies on this machine."""
    return seconds * SCALE


TIMEOUT = scaled(45.0)
"""Seconds after which a test stops waiting for a process, a thread or a Deferred."""

CLIENT_TIMEOUT = scaled(30.0)
"""Seconds after which a blocking client raises; shorter than TIMEOUT, so that its error is seen."""

CASE_TIMEOUT = scaled(10.0)
"""Seconds that a reactor may run in one of Twisted's reactor cases."""

PEER_TIMEOUT = scaled(5.0)
"""Seconds that a peer in such a case waits; shorter than CASE_TIMEOUT for the same reason."""

SESSION_TIMEOUT = scaled(120.0)
"""Seconds for a whole run of pytest or trial in a process of its own."""

EXAMPLE_DEADLINE = scaled(1.0)
"""Seconds that hypothesis allows for one example of a property."""
