"""The maximum size of a reply."""

import pytest

from netsrv.guards.amplification import max_reply_size, wire_size


@pytest.mark.parametrize("request_size", [0, 1, 20, 1400])
@pytest.mark.parametrize(
    ("host", "headers"), [("192.0.2.1", 28), ("::ffff:192.0.2.1", 28), ("2001:db8::1", 48)]
)
def test_a_reply_is_at_most_three_times_its_request_on_the_wire(host, headers, request_size):
    """With its headers, a reply of the maximum size is exactly three times the request."""
    size = max_reply_size(request_size, host)
    assert headers + size == 3 * (headers + request_size)
    assert wire_size(size, host) == headers + size
