"""TLS on a listener behind a proxy: the PROXY header comes first, and is not encrypted."""

import ssl

import pytest

from netsrv.proxy_protocol import make_v2
from netsrv.testing.servers import MemoryServer
from tests.tls.clients import TLSClient, client_context

HEADER = make_v2(("203.0.113.7", 56324), ("198.51.100.9", 443))


def test_f77_the_header_and_the_hello_may_share_segments(authority, tls):
    """Header and ClientHello in one segment, and cut at each byte of the header and just after."""
    server = MemoryServer("info", proxy_protocol_from=["192.0.2.1"], **tls)
    context = client_context(authority)
    for cut in range(len(HEADER) + 8):
        connection = server.connect(keep_open=True)
        client = TLSClient(connection, context)
        with pytest.raises(ssl.SSLWantReadError):
            client.ssl.do_handshake()
        data = HEADER + client.taken()
        connection.send(data[:cut])
        connection.send(data[cut:])
        client.shake_hands()
        answer = client.read()
        assert b'"peer": "203.0.113.7:56324"' in answer
        assert b'"version": "TLSv1.3"' in answer
        connection.close()
    assert server.counts.refused == {}


def test_f77_each_stage_has_its_reason(authority, tls):
    """No header, and a header without TLS after it."""
    server = MemoryServer("echo", proxy_protocol_from=["192.0.2.1"], **tls)
    client = TLSClient(server.connect(), client_context(authority))
    with pytest.raises(ssl.SSLError):
        client.shake_hands()
    plain = server.connect()
    plain.send(HEADER + b"hello")
    silent = server.connect()
    silent.send(HEADER)
    assert server.info()["listeners"][0]["pending"] == {"tls": 1}
    server.advance(5.1)
    assert server.counts.refused == {"proxy_header": 1, "tls_plaintext": 1, "tls_timeout": 1}
