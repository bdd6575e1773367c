"""Server names that Python cannot decode.

A client may send any bytes as the name that it asks for.  `ssl` refuses those that are not ASCII,
and reports each to `sys.unraisablehook`, which writes lines to standard error: a remote could
fill a disk with them.  So they are counted instead.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class OddNames:
    """Counts the server names that were refused because they are not ASCII."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Callable[[Any], Any] = sys.unraisablehook

    def counted(self, call: Callable[[bytes], Result], data: bytes) -> Result:
        """Return ``call(data)``, and count what `ssl` would report meanwhile."""
        self._before = sys.unraisablehook
        sys.unraisablehook = self._report
        try:
            return call(data)
        finally:
            sys.unraisablehook = self._before

    def _report(self, unraisable: Any) -> None:
        if unraisable.exc_type is UnicodeDecodeError and isinstance(unraisable.object, bytes):
            self.count += 1
        else:
            self._before(unraisable)


ODD_NAMES = OddNames()
"""Those of the process."""
