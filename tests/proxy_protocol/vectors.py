"""Headers and what a receiver makes of them, by the specification: vectors.json.

In ``bytes`` and in the values of TLVs, ``(78*3000)`` stands for 3,000 bytes 0x78.  The level is
must, should or may; ``also`` lists other verdicts that the specification allows.  The expectations
were compared with 17 receivers, among them HAProxy, nginx and Varnish.
"""

import json
import re
from pathlib import Path

FILE = Path(__file__).with_name("vectors.json")
_RUN = re.compile(r"\(([0-9a-f]{2})\*(\d+)\)")

OUR_CHOICES = {
    "v1-unknown-lone-cr-inside": "reject",
    "v1-unknown-crcrlf": "reject",
    "v2-unix-dgram": "reject",
    "v2-udp6-over-tcp": "reject",
    "v2-crc-right-udp4": "reject",
    "v2-length-32768": "reject",
    "v2-length-claims-65535-wait": "reject",
    "v2-tlv-ssl-4-bytes": "accept",
    "v2-tlv-ssl-empty": "accept",
    "v2-tlv-ssl-sub-overlong": "accept",
    "v2-tlv-ssl-sub-stray": "accept",
    "v2-crc-wrong-unspec": "accept",
}
"""Our verdict where it is another one that the specification allows."""


def unpack(text):
    """Return the bytes of a text in the form of the file."""
    return bytes.fromhex(_RUN.sub(lambda run: run[1] * int(run[2]), text))


VECTORS = json.loads(FILE.read_text())
for vector in VECTORS:
    vector["bytes"] = unpack(vector["bytes"])
    vector["tlvs"] = tuple((kind, unpack(value)) for kind, value in vector.get("tlvs", ()))
    choice = OUR_CHOICES.get(vector["name"])
    if choice is not None:
        allowed = {verdict.partition("-")[0] for verdict in vector["also"]}
        assert choice in allowed, vector["name"]
        vector["verdict"] = choice
    if vector["verdict"] == "accept":
        vector.setdefault("leftover", 0)
TRUSTED = [vector for vector in VECTORS if vector.get("trusted", True)]
"""Those that a trusted proxy has sent."""
