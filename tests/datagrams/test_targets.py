"""The addresses to which a service may write."""

import socket

import pytest

from netsrv.datagrams.targets import resolve


@pytest.mark.parametrize(
    ("addr", "error"),
    [
        ("::1", TypeError),
        (["::1", 7], TypeError),
        (("::1", "7"), TypeError),
        (("::1", 65536), OverflowError),
        (("::1", 7, "0"), TypeError),
        (("::1", 7, 0, "lo"), TypeError),
        (("::1", 7, 2**20), OverflowError),
        (("::1", 7, 0, 2**32), OverflowError),
        (("::1", 7, 0, -1), OverflowError),
    ],
)
def test_what_is_no_address_is_an_error_of_the_service(addr, error):
    """It is a TypeError or an OverflowError, as for a socket, and not an error of the network."""
    with pytest.raises(error):
        resolve(socket.AF_INET6, addr)
