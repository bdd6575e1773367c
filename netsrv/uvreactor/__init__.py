"""A Twisted reactor on uvloop, for any Twisted program: ``--reactor=uvloop``.

It imports nothing of the rest of netsrv.
"""


def install() -> None:
    """Make a reactor on uvloop the reactor of this process.

    Raises ReactorAlreadyInstalledError if there is one.
    """
    from twisted.internet.main import installReactor

    from netsrv.uvreactor.reactor import UvloopReactor

    installReactor(UvloopReactor())
