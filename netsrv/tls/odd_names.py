"""Server names that Python cannot decode.

A client may send any bytes as the name that it asks for.  `ssl` refuses those that are not ASCII,
and reports each to `sys.unraisablehook`, which writes lines to standard error: a remote could
fill a disk with them.  So they are counted instead.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class OddNames:
    """Counts the server names that were refused because they are not ASCII."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count in the block what `ssl` would report."""
        before = sys.unraisablehook

        def hook(unraisable: Any) -> None:
            if unraisable.exc_type is UnicodeDecodeError and isinstance(unraisable.object, bytes):
                self.count += 1
            else:
                before(unraisable)

        sys.unraisablehook = hook
        try:
            yield
        finally:
            sys.unraisablehook = before


ODD_NAMES = OddNames()
"""Those of the process."""
