"""The parser of PROXY headers: the vectors, any split, any bytes."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsrv.proxy_protocol import (
    Command,
    Family,
    Header,
    HeaderError,
    Rules,
    SSLInfo,
    Transport,
    make_local,
    make_v1,
    make_v2,
    parse,
)
from netsrv.proxy_protocol.crc32c import crc32c
from netsrv.proxy_protocol.parser import DEFAULT_RULES
from netsrv.proxy_protocol.tlvs import pack_ssl
from tests.proxy_protocol.vectors import OUR_CHOICES, TRUSTED

V4, V4_SERVER = ("203.0.113.7", 56324), ("198.51.100.9", 443)
V6, V6_SERVER = ("2001:db8::7", 56324), ("2001:db8:1::9", 443)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def verdict(data, rules=DEFAULT_RULES):
    """Return what becomes of bytes after which nothing follows."""
    try:
        header = parse(data, rules)
    except HeaderError:
        return "reject", None
    return ("incomplete", None) if header is None else ("accept", header)


def endpoint(vector, name):
    """Return an address of a vector, in the form of a header's."""
    host, port = vector.get(name), vector.get(f"{name}_port")
    if host is None or port is None:
        return host
    if ":" in host:
        host = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host))
    return host, port


def outcome(vector):
    """Return what the parser makes of a vector, in the form of what is expected."""
    data = vector["bytes"]
    result, header = verdict(data)
    if vector.get("then") == "close" and result == "incomplete":
        result = "reject"
    if header is None or vector["name"] in OUR_CHOICES:
        return (vector["name"], result)
    command, leftover = header.command.name, len(data) - header.size
    return (vector["name"], result, command, leftover, *_facts_of(header))


def _facts_of(header):
    return header.source, header.destination, header.tlvs


def expected(vector):
    """Return what `outcome` returns if all is well."""
    name, result = vector["name"], vector["verdict"]
    if result != "accept" or name in OUR_CHOICES:
        return (name, result)
    command, leftover = vector.get("command", "PROXY"), vector["leftover"]
    addresses = endpoint(vector, "source"), endpoint(vector, "destination")
    return (name, result, command, leftover, *addresses, vector["tlvs"])


def test_f54_each_vector_has_its_verdict():
    """Each header of the specification's cases: addresses, TLVs, and how many bytes it has."""
    outcomes, wanted = map(outcome, TRUSTED), map(expected, TRUSTED)
    assert [pair for pair in zip(outcomes, wanted, strict=True) if pair[0] != pair[1]] == []


def test_f48_any_split_gives_the_same_verdict():
    """Each beginning of the bytes is incomplete, up to one at which the verdict is there."""
    for vector in TRUSTED:
        data = vector["bytes"]
        result, header = verdict(data)
        earlier = [verdict(data[:size]) for size in range(min(len(data), 300))]
        decided = [pair for pair in earlier if pair[0] != "incomplete"]
        assert all(pair == (result, header) for pair in decided), vector["name"]
        if header is not None and header.size < 300:
            assert len(earlier) - len(decided) == min(header.size, len(earlier)), vector["name"]


def test_f51_a_line_without_crlf_is_over_at_107_bytes():
    """106 bytes may still become a line, 107 may not; a CR as the last of them is none."""
    line = b"PROXY UNKNOWN ".ljust(200, b"x")
    assert verdict(line[:106])[0] == "incomplete"
    assert verdict(line[:107])[0] == "reject"
    assert verdict(line[:106] + b"\r")[0] == "reject"
    assert verdict(line[:105] + b"\r\n")[0] == "accept"


@pytest.mark.parametrize("text", ["PROXY UNKNOWN\n", "PROXY UNKNOWN x\nGET / HTTP/1.1\r\n"])
def test_f52_lf_alone_closes_at_once(text):
    """It swallows no line of the payload, as some receivers do."""
    assert verdict(text.encode())[0] == "reject"


@pytest.mark.parametrize(
    "word",
    ["+80", "5_6", "080", "65536", "-1", "", " 80", "\u0661", "1e3", "0x50", "99999999999999999"],
)
def test_f53_a_port_is_a_plain_number(word):
    """No form that Python's int() takes beside decimal digits."""
    line = f"PROXY TCP4 203.0.113.7 198.51.100.9 {word} 443\r\n".encode()
    assert verdict(line)[0] == "reject"


@pytest.mark.parametrize(
    ("protocol", "host"),
    [
        ("TCP4", "256.0.0.1"),
        ("TCP4", "010.0.0.1"),
        ("TCP4", "1.2.3"),
        ("TCP4", "2001:db8::7"),
        ("TCP4", "localhost"),
        ("TCP6", "203.0.113.7"),
        ("TCP6", "fe80::1%eth0"),
        ("TCP6", "[2001:db8::7]"),
        ("TCP6", "::ffff:010.0.0.1"),
        ("TCP6", "1::2::3"),
        ("tcp4", "203.0.113.7"),
        ("TCP5", "203.0.113.7"),
    ],
)
def test_f53_a_bad_address_closes(protocol, host):
    """Leading zeros, names, zones, brackets, the wrong family, lower case."""
    line = f"PROXY {protocol} {host} {host} 1 2\r\n".encode()
    assert verdict(line)[0] == "reject"


@pytest.mark.parametrize(
    "host", ["::", "2001:0DB8::0007", "::ffff:1.2.3.4", "::ffff:cb00:7107", "1:2:3:4:5:6:7:8"]
)
def test_f53_forms_of_ipv6_that_are_valid(host):
    """Padding, upper case, a mapped address, and port 0."""
    line = f"PROXY TCP6 {host} ::1 0 0\r\n".encode()
    packed = socket.inet_pton(socket.AF_INET6, host)
    assert verdict(line)[1].source == (socket.inet_ntop(socket.AF_INET6, packed), 0)


def test_f55_what_is_not_assigned_closes_at_once():
    """Versions and commands at byte 13, families and transports at byte 14; not for LOCAL."""
    for byte in range(256):
        result = verdict(SIGNATURE + bytes([byte]))[0]
        assert (result == "reject") == (byte not in (0x20, 0x21))
        family, transport = byte >> 4, byte & 15
        result = verdict(SIGNATURE + b"\x21" + bytes([byte]))[0]
        rejected = family > 3 or transport > 2 or (family > 0 and transport == 2)  # F59
        assert (result == "reject") == rejected
        assert verdict(SIGNATURE + b"\x20" + bytes([byte]) + b"\0\0")[0] == "accept"


def test_f56_local_skips_its_block_unread():
    """With any block; F60 to F62 do not apply."""
    for block in (b"", bytes(12), b"\3\0\4abcd\3", b"\1\xff\xff"):
        header = SIGNATURE + b"\x20\x11" + len(block).to_bytes(2, "big") + block
        assert verdict(header + b"GET")[1] == Header(2, len(header), Command.LOCAL)


INET = SIGNATURE + b"\x21\x11"
BLOCK = bytes(12)


def headers_with(*tails):
    """Return headers whose length is that of a block of IPv4, and of each of *tails*."""
    return [INET + (12 + len(tail)).to_bytes(2, "big") + BLOCK + tail for tail in tails]


def test_f60_a_length_that_is_too_short_for_the_addresses():
    """It is rejected before the bytes have come, for each family; the payload is no address."""
    for kind, size in ((0x11, 12), (0x21, 36), (0x31, 216)):
        for length in (0, 1, size - 1):
            start = SIGNATURE + b"\x21" + bytes([kind]) + length.to_bytes(2, "big")
            assert verdict(start)[0] == verdict(start + b"GET /" * 50)[0] == "reject"


def test_f61_bytes_that_are_no_whole_tlv():
    """One or two that are left, and a length that runs over the header's."""
    tails = (b"\4", b"\4\0", b"\4\0\1", b"\4\0\0\4", b"\xe1\xff\xff")
    assert {verdict(header + b"payload")[0] for header in headers_with(*tails)} == {"reject"}


def test_f63_types_that_have_no_name_are_kept():
    """Custom, experimental, future and unassigned ones, and padding."""
    kinds = [0x04, 0x06, 0x7F, 0xE1, 0xEF, 0xF0, 0xF7, 0xF8, 0xFF]
    header = parse(make_v2(V4, V4_SERVER, tlvs=[(kind, b"x") for kind in kinds]))
    assert header.tlvs == tuple((kind, b"x") for kind in kinds)
    assert header.describe() == {"version": 2, "command": "PROXY"}


def test_f68_local_without_a_block():
    """It is complete, and says nothing about a client."""
    header = parse(make_local())
    assert (header.source, header.tlvs, header.describe()["command"]) == (None, (), "LOCAL")


def test_f57_headers_without_addresses_may_be_rejected():
    """UNKNOWN, UNSPEC and half UNSPEC are accepted by default."""
    headers = [make_v1(), make_v2()]
    headers += [SIGNATURE + b"\x21" + bytes([kind, 0, 0]) for kind in (1, 2, 0x10, 0x20, 0x30)]
    for header in headers:
        assert verdict(header)[1].source is None
        assert verdict(header, Rules(unspec=False))[0] == "reject"
    assert verdict(make_local(), Rules(unspec=False))[0] == "accept"


def test_f59_headers_for_the_other_transport():
    """DGRAM on a connection, STREAM on a datagram: rejected, or accepted without addresses."""
    for transport, other in (("STREAM", "DGRAM"), ("DGRAM", "STREAM")):
        header = make_v2(V4, V4_SERVER, transport=Transport[other], tlvs=[(2, b"x")])
        rules = Rules(transport=Transport[transport])
        assert verdict(header, rules)[0] == "reject"
        lenient = Rules(transport=Transport[transport], other_transport=True)
        accepted = verdict(header, lenient)[1]
        assert (accepted.source, accepted.authority) == (None, b"x")


def test_f64_a_length_above_the_cap_is_rejected_before_it_has_come():
    """The default cap is 16 KiB, and 65,535 bytes are the most that there can be."""
    start = SIGNATURE + b"\x21\x11"
    assert verdict(start + (16384).to_bytes(2, "big"))[0] == "incomplete"
    assert verdict(start + (16385).to_bytes(2, "big"))[0] == "reject"
    assert verdict(start + b"\xff\xff", Rules(max_length=65535))[0] == "incomplete"
    local = SIGNATURE + b"\x20\0\xff\xff"
    assert verdict(local)[0] == "reject"


def test_f67_texts_of_a_peer_are_escaped():
    """ESC, CR LF and bad UTF-8 in a TLV never reach a log as they are."""
    header = parse(make_v2(V4, V4_SERVER, tlvs=[(2, b"a\x1b[31m\r\n\xff"), (0x30, b"\0")]))
    described = header.describe()
    assert described["authority"] == r"a\x1b[31m\r\n\xff"
    assert all(str(value).isprintable() for value in described.values())


def test_the_names_of_vendors_are_those_of_nginx():
    """AWS, Azure (little-endian) and Google Cloud, by their own forms; others are not named."""
    tlvs = [
        (0xEA, b"\1vpce-08d2bf15fac5001c9"),
        (0xEE, b"\1\x01\x02\0\0"),
        (0xE0, (2**63 + 5).to_bytes(8, "big")),
        (1, b"h2"),
        (5, b"id"),
    ]
    header = parse(make_v2(V4, V4_SERVER, tlvs=tlvs))
    assert header.describe() == {
        "version": 2,
        "command": "PROXY",
        "alpn": "h2",
        "unique_id": "id",
        "aws_vpce_id": "vpce-08d2bf15fac5001c9",
        "azure_pel_id": "513",
        "gcp_conn_id": "9223372036854775813",
    }
    odd = [(0xEA, b"\2x"), (0xEE, b"\1\0"), (0xE0, b"")]
    header = parse(make_v2(V4, V4_SERVER, tlvs=odd))
    assert (header.aws_vpce_id, header.azure_pel_id, header.gcp_conn_id) == (None, None, None)


def test_what_a_proxy_says_about_tls():
    """The TLV SSL has flags, the result of the verification, and names; F62 is not for it."""
    inner = ((0x21, b"TLSv1.3"), (0x22, b"alice"), (0x23, b"TLS_AES_128_GCM_SHA256"), (3, b"x"))
    info = SSLInfo(5, 0, (*inner, (0x26, b"X25519"), (0x28, b"\x30\x82")))
    header = parse(make_v2(V4, V4_SERVER, tlvs=[(0x20, pack_ssl(info))]))
    assert header.ssl == info
    ssl = header.ssl
    assert (ssl.version, ssl.cn, ssl.cipher) == tuple(value for _, value in inner[:3])
    assert ssl.client_cert == b"\x30\x82"
    assert header.describe()["ssl_group"] == "X25519"
    for broken in (b"", b"\1\0\0\0", b"\1\0\0\0\0\x21\0\xff"):
        assert parse(make_v2(V4, V4_SERVER, tlvs=[(0x20, broken)])).ssl is None


def test_f62_of_duplicates_the_first_has_the_name():
    """All stay in order; a second checksum is an error."""
    header = parse(make_v2(V4, V4_SERVER, tlvs=[(2, b"a"), (2, b"b")], checked=True))
    assert (header.authority, [value for kind, value in header.tlvs if kind == 2]) == (
        b"a",
        [b"a", b"b"],
    )
    assert verdict(make_v2(V4, V4_SERVER, tlvs=[(3, bytes(4))], checked=True))[0] == "reject"


def test_the_checksum_is_that_of_rfc_3720():
    """The examples of appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("path", ["/run/client.sock", "@abstract", "", "/" + "x" * 107])
def test_f58_paths_of_unix_sockets(path):
    """They come back as they were written, with ``@`` for the abstract namespace."""
    header = parse(make_v2(path, "/run/server.sock"))
    assert (header.family, header.source) == (Family.UNIX, path)


# Properties

hosts4 = st.ip_addresses(v=4).map(str)
hosts6 = st.ip_addresses(v=6).map(str)
ports = st.integers(0, 65535)
pairs = st.one_of(
    *(st.tuples(st.tuples(hosts, ports), st.tuples(hosts, ports)) for hosts in (hosts4, hosts6))
)
tlv_lists = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=100)),
    max_size=5,
)


def same(endpoint, written):
    """Return whether an address of a header is the one that was written."""
    af = socket.AF_INET6 if ":" in written[0] else socket.AF_INET
    return endpoint == (socket.inet_ntop(af, socket.inet_pton(af, written[0])), written[1])


@given(pairs, tlv_lists, st.booleans(), st.binary(max_size=30))
def test_version_2_comes_back_as_it_was_written(pair, tlvs, checked, payload):
    """Addresses, TLVs, and the first byte of the payload."""
    data = make_v2(*pair, tlvs=tlvs, checked=checked)
    header = parse(data + payload)
    assert header.size == len(data)
    assert same(header.source, pair[0])
    assert same(header.destination, pair[1])
    assert [tlv for tlv in header.tlvs if tlv[0] != 3] == tlvs


@given(pairs, st.binary(max_size=30))
def test_version_1_comes_back_as_it_was_written(pair, payload):
    """Addresses, and the first byte of the payload."""
    data = make_v1(*pair)
    header = parse(data + payload)
    assert (header.size, len(data) <= 107) == (len(data), True)
    assert same(header.source, pair[0])
    assert same(header.destination, pair[1])


@given(st.data(), pairs, tlv_lists, st.booleans())
def test_a_changed_header_is_a_verdict_and_never_an_exception(data, pair, tlvs, is_v1):
    """Whatever byte is changed, cut or added; a changed bit under a checksum is seen."""
    original = make_v1(*pair) if is_v1 else make_v2(*pair, tlvs=tlvs, checked=True)
    index = data.draw(st.integers(0, len(original) - 1))
    byte = data.draw(st.integers(1, 255))
    changed = bytearray(original)
    changed[index] ^= byte
    result, header = verdict(bytes(changed))
    if not is_v1 and result == "accept" and header.command and header.family and header.transport:
        assert not any(kind == 3 for kind, _ in header.tlvs)
    for cut in (index, len(original)):
        verdict(bytes(changed[:cut]))


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(SIGNATURE.__add__)))
def test_any_bytes_are_a_verdict(data):
    """No exception but `HeaderError`."""
    for rules in (Rules(), Rules(transport=Transport.DGRAM, other_transport=True)):
        verdict(data, rules)


# The writer


def test_a_mixed_pair_becomes_ipv6():
    """IPv4 is mapped, as the header has one family."""
    assert make_v1(V4, V6) == b"PROXY TCP6 ::ffff:203.0.113.7 2001:db8::7 56324 56324\r\n"
    assert parse(make_v2(V6, V4)).destination == ("::ffff:203.0.113.7", 56324)
    assert make_v1(("fe80::1%eth0", 1), V6).startswith(b"PROXY TCP6 fe80::1 ")


@pytest.mark.parametrize(
    "arguments",
    [
        (("localhost", 1), V4),
        (("203.0.113.7", 65536), V4),
        (("203.0.113.7", -1), V4),
        ("/run/a", V4),
        ("x" * 109, "y"),
    ],
)
def test_what_is_no_address_is_refused(arguments):
    """Nothing is sent that no receiver could read."""
    with pytest.raises(ValueError, match=r"."):
        make_v2(*arguments)


def test_what_is_too_long_is_refused():
    """A TLV of more than 65,535 bytes, or TLVs that are longer together."""
    with pytest.raises(ValueError, match="TLV"):
        make_v2(V4, V4_SERVER, tlvs=[(2, bytes(65536))])
    with pytest.raises(ValueError, match="TLV"):
        make_v2(V4, V4_SERVER, tlvs=[(256, b"")])
    with pytest.raises(ValueError, match="65,535"):
        make_v2(V4, V4_SERVER, tlvs=[(2, bytes(40000))] * 2)


def test_without_addresses():
    """UNKNOWN of version 1, UNSPEC and LOCAL of version 2."""
    assert make_v1() == b"PROXY UNKNOWN\r\n"
    assert make_v2() == SIGNATURE + b"\x21\0\0\0"
    assert make_local() == SIGNATURE + b"\x20\0\0\0"
