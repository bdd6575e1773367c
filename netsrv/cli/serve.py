"""The entry of the command ``netsrv``.

It imports little: signals are held before the imports, which take most of the start.
"""

import os
import sys

from netsrv.cli.signals import hold_signals


def main() -> int:
    """Run the command, and return the exit status."""
    if sys.argv[1:2] not in ([], ["serve"]):
        from netsrv.cli.clients import run_fast

        status = run_fast(sys.argv[1:])
        if status is not None:
            return status
    hold_signals()
    if os.getpid() == 1:
        from netsrv.cli.first_process import continue_in_child

        continue_in_child(os.environ)
    from netsrv.cli.command import main as run

    return run()
