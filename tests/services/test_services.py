"""The services, byte by byte against their RFCs."""

import json
import random
import string
import time

import pytest

from netsrv.services import chargen, daytime, qotd
from netsrv.services.accept import AcceptService
from netsrv.services.chargen import ChargenDatagrams, ChargenService
from netsrv.services.daytime import DaytimeService
from netsrv.services.discard import DiscardService
from netsrv.services.echo import EchoService
from netsrv.services.info import InfoService
from netsrv.services.qotd import QotdService
from netsrv.services.time import SINCE_1900, TimeService
from tests.doubles import answers, open_stream

PEER = ("192.0.2.1", 40000)


def test_accept_says_nothing_and_closes():
    """A connection to accept is closed without a byte."""
    _, transport = open_stream(AcceptService())
    assert transport.value() == b""
    assert transport.disconnecting


def test_echo_sends_everything_back():
    """Echo returns each byte, and goes on until the peer has ended (RFC 862)."""
    protocol, transport = open_stream(EchoService())
    protocol.dataReceived(bytes(range(256)))
    assert transport.value() == bytes(range(256))
    assert not transport.disconnecting
    protocol.readConnectionLost()
    assert transport.disconnecting


def test_echo_stops_reading_from_a_peer_that_does_not_read():
    """Echo's transport is the producer of its own output."""
    _, transport = open_stream(EchoService())
    assert transport.producer is transport
    assert transport.streaming


@pytest.mark.parametrize("size", [0, 1, 512, 65_507])
def test_echo_returns_datagrams_of_any_size(size):
    """A datagram comes back unchanged, even an empty one."""
    data = random.randbytes(size)
    assert answers(EchoService().datagram(None), data) == [(data, PEER)]


def test_discard_never_answers():
    """Discard drops what it receives, on both transports (RFC 863)."""
    protocol, transport = open_stream(DiscardService())
    protocol.dataReceived(b"x" * 100_000)
    assert transport.value() == b""
    assert answers(DiscardService().datagram(None), b"x") == []


def test_chargen_sends_the_lines_of_the_rfc():
    """Line N begins at character N of the ring of 95 (RFC 864)."""
    _, transport = open_stream(ChargenService())
    transport.producer.resumeProducing()
    lines = transport.value().split(b"\r\n")[:-1]
    printable = bytes(sorted((string.ascii_letters + string.digits + string.punctuation).encode()))
    ring = b" " + printable
    assert len(lines) > 2 * 95
    for number, line in enumerate(lines):
        assert line == bytes(ring[(number + place) % 95] for place in range(72))


def test_chargen_writes_only_when_it_is_asked():
    """Chargen writes one chunk when the transport has room, and ignores input."""
    protocol, transport = open_stream(ChargenService())
    assert not transport.streaming
    transport.clear()
    protocol.dataReceived(b"x" * 100_000)
    assert transport.value() == b""
    transport.producer.resumeProducing()
    assert 0 < len(transport.value()) <= 65_536


@pytest.mark.parametrize(("request_size", "longest"), [(0, 56), (1, 59), (152, 512), (1400, 512)])
def test_chargen_datagrams_are_as_long_as_the_request_pays_for(request_size, longest):
    """They have a random 0 to 512 characters, at most three times the request on the wire."""
    asked = []

    def highest(low, high):
        asked.append(low)
        return high

    [(answer, peer)] = answers(ChargenDatagrams(highest), b"x" * request_size)
    assert (asked, len(answer), peer) == ([0], longest, PEER)
    assert answer == chargen.ROUND[:longest]


def test_qotd_is_one_short_message_of_printable_characters():
    """Every quote is under 512 characters of printable ASCII and line ends (RFC 865)."""
    allowed = set(range(0x20, 0x7F)) | {13, 10}
    for quote in qotd.QUOTES:
        _, transport = open_stream(QotdService(lambda quotes, quote=quote: quote))
        assert transport.value() == quote.encode() + b"\r\n"
        assert len(transport.value()) < 512
        assert set(transport.value()) <= allowed
        assert transport.disconnecting


def test_qotd_cuts_what_is_too_long():
    """A quote is cut to 511 characters, and in a datagram to three times the request."""
    service = QotdService(lambda quotes: "q" * 600)
    assert len(open_stream(service)[1].value()) == 511
    assert len(answers(service.datagram(None))[0][0]) == 56


def test_daytime_is_the_line_of_the_rfc():
    """It returns the example of RFC 867 with the right weekday, which the RFC has wrong."""
    service = DaytimeService(lambda: 383247463.9)
    line = b"Monday, February 22, 1982 17:37:43-UTC\r\n"
    _, transport = open_stream(service)
    assert transport.value() == line
    assert transport.disconnecting
    assert answers(service.datagram(None)) == [(line, PEER)]


def test_daytime_never_needs_more_than_an_empty_request_pays_for():
    """The longest possible line fits into the answer to an empty datagram."""
    wednesday = 1_790_754_743  # in September 2026, the longest names
    line = daytime.daytime(wednesday)
    assert line.startswith(b"Wednesday, September ")
    assert answers(DaytimeService(lambda: wednesday).datagram(None)) == [(line, PEER)]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (0, (2_208_988_800).to_bytes(4, "big")),
        (-1, (2_208_988_799).to_bytes(4, "big")),
        (-SINCE_1900, b"\0\0\0\0"),
        (2_085_978_495, b"\xff\xff\xff\xff"),
        (2_085_978_496, b"\0\0\0\0"),
        (1e10, ((10**10 + SINCE_1900) % 2**32).to_bytes(4, "big")),
    ],
)
def test_time_is_seconds_since_1900_modulo_32_bits(now, expected):
    """It sends four big-endian bytes, which wrap in February 2036 (RFC 868)."""
    service = TimeService(lambda: now)
    _, transport = open_stream(service)
    assert transport.value() == expected
    assert transport.disconnecting
    assert answers(service.datagram(None)) == [(expected, PEER)]


def test_time_sends_nothing_when_it_cannot_know():
    """With a clock before 1900 it closes without a byte, and answers no datagram."""
    service = TimeService(lambda: -SINCE_1900 - 1)
    _, transport = open_stream(service)
    assert transport.value() == b""
    assert transport.disconnecting
    assert answers(service.datagram(None)) == []


def test_the_clock_of_a_service_is_the_wall_clock():
    """By default, time and daytime use the time of day."""
    before = int(time.time()) + SINCE_1900
    _, transport = open_stream(TimeService())
    assert before <= int.from_bytes(transport.value(), "big") <= before + 60


def test_info_answers_a_datagram_that_pays_for_it():
    """The answer is one whole line of JSON, or none."""
    protocol = InfoService().datagram(None)
    [(line, _)] = answers(protocol, b"x" * 40)
    assert json.loads(line) == {"peer": "192.0.2.1:40000", "local": "0.0.0.0:7", "received": 40}
    assert line.endswith(b"}\n")
    assert answers(protocol, b"") == []
