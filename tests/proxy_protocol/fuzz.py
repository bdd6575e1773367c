"""Parse millions of changed PROXY headers; the check runs some thousands of them.

Usage: python -m tests.proxy_protocol.fuzz [--inputs N] [--seed N]

Every input has to give a verdict: a header, `HeaderError`, or that more bytes are needed.  Each
beginning of it has to be incomplete, or to give the same verdict.
"""

import argparse
import random
import time
from collections import Counter

from netsrv.proxy_protocol import Header, HeaderError, Transport, make_local, make_v1, make_v2
from netsrv.proxy_protocol.header import DEFAULT_MAX_LENGTH, Rules
from netsrv.proxy_protocol.parser import parse
from tests.proxy_protocol.vectors import TRUSTED

RULES = [Rules(transport=transport) for transport in (Transport.STREAM, Transport.DGRAM)] + [
    Rules(520, unspec=False),
    Rules(other_transport=True),
]
MAX_SECONDS = 0.5
"""Of one input, at most, on a machine that does other work too."""

INSERTIONS = (
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b":",
    b".",
    b"0",
    b"\xff",
    b"PROXY ",
    b"\x21\x11",
)


def seeds() -> list[bytes]:
    """Return the headers from which inputs are made."""
    hosts = [("203.0.113.7", "198.51.100.9"), ("2001:db8::7", "::ffff:198.51.100.9")]
    headers = [make_v1(), make_v2(), make_local(), make_v2("/run/client", "@server", checked=True)]
    for source, destination in hosts:
        pair = (source, 56324), (destination, 443)
        tlvs = [(1, b"h2"), (2, b"a.example"), (5, b"x" * 128), (0x20, b"\1\0\0\0\0\x21\0\1x")]
        headers += [make_v1(*pair), make_v2(*pair), make_v2(*pair, tlvs=tlvs, checked=True)]
        headers.append(make_v2(*pair, transport=Transport.DGRAM, tlvs=tlvs))
    return headers + [vector["bytes"] for vector in TRUSTED if len(vector["bytes"]) < 600]


def change(data: bytes, random_: random.Random) -> bytes:
    """Return *data* with some bytes changed, cut, added or repeated."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 4, 8))):
        index = random_.randrange(len(changed) + 1)
        kind = random_.randrange(6)
        if kind == 0:
            changed[index:] = b""
        elif kind == 1:
            changed[index:index] = random_.choice(INSERTIONS)
        elif kind == 2:
            changed[index : index + random_.randrange(1, 9)] = b""
        elif kind == 3:
            changed[index:index] = changed[: random_.randrange(len(changed) + 1)]
        elif index < len(changed):
            changed[index] = random_.randrange(256)
    return bytes(changed[:70_000])


def verdict(data: bytes, rules: Rules) -> Header | str | None:
    """Return a header, ``"reject"``, or None for what is incomplete."""
    try:
        return parse(data, rules)
    except HeaderError:
        return "reject"


def check(data: bytes, rules: Rules, random_: random.Random) -> str:
    """Check one input, and return its verdict.  Raises AssertionError, or what the parser does."""
    began = time.perf_counter()
    result = verdict(data, rules)
    assert time.perf_counter() - began < MAX_SECONDS, data[:100]
    size = len(data)
    if isinstance(result, Header):
        size = result.size
        assert 0 < size <= min(len(data), 16 + DEFAULT_MAX_LENGTH), data[:100]
        assert verdict(data[:size], rules) == result, data[:100]
        assert verdict(data[: size - 1], rules) is None, data[:100]
        result.describe()
    earlier = verdict(data[: random_.randrange(size + 1)], rules)
    assert earlier is None or earlier == result, data[:100]
    if isinstance(result, Header):
        return "accepted"
    return "incomplete" if result is None else "rejected"


def run(inputs: int, seed: int) -> Counter[str]:
    """Check so many inputs; return how many there were of each verdict."""
    random_ = random.Random(seed)
    known = seeds()
    counts: Counter[str] = Counter()
    for number in range(inputs):
        data = change(random_.choice(known), random_)
        counts[check(data, RULES[number % len(RULES)], random_)] += 1
    return counts


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(prog="tests.proxy_protocol.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000_000, help="default 10,000,000")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    options = parser.parse_args()
    began = time.monotonic()
    counts = run(options.inputs, options.seed)
    shown = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"{options.inputs:,} inputs in {time.monotonic() - began:.0f} s: {shown}")


if __name__ == "__main__":
    main()
