"""The C library, through ctypes, which not every Python has.

Python may be built without libffi.  `library` returns None there, and callers do without its
functions.
"""

from functools import cache
from importlib import import_module
from typing import Any


def _import_ctypes() -> Any:
    try:
        return import_module("ctypes")
    except ImportError:
        return None


ctypes = _import_ctypes()
"""The module; None if it cannot be imported."""


@cache
def library() -> Any:
    """Return the C library, whose functions set `ctypes.get_errno`; None if it cannot be loaded."""
    if ctypes is None:
        return None
    try:
        return ctypes.PyDLL(None, use_errno=True)
    except (OSError, TypeError):  # no dynamic loading: a static build, or another system
        return None
