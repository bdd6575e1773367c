"""The entry of the command ``netsrv``.

It imports little: signals are held before the imports, which take most of the start.
"""

from netsrv.cli.signals import hold_signals


def main() -> int:
    """Run the command, and return the exit status."""
    hold_signals()
    from netsrv.cli.command import main as run

    return run()
