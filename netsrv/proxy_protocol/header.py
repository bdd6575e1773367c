"""A header of the PROXY protocol as a value, and the rules by which it is accepted."""

from enum import IntEnum
from typing import Any

from attrs import define, frozen

from netsrv.proxy_protocol.tlvs import (
    ALPN,
    AUTHORITY,
    NETNS,
    SSL,
    UNIQUE_ID,
    SSLInfo,
    describe_tlvs,
    first_of,
    parse_ssl,
    vendor_id,
)

MAX_LENGTH = 0xFFFF
"""Bytes after the first 16 of a header of version 2, at most: the length has 16 bits."""

DEFAULT_MAX_LENGTH = 16384
"""Bytes of these that are accepted by default; a client's certificate in DER takes 1 to 9 KiB."""


class HeaderError(ValueError):
    """The bytes are no valid header; the text says why, and holds nothing that a peer sent."""


class Command(IntEnum):
    """Whether the proxy relays a client, or speaks for itself, as in a health check."""

    LOCAL = 0
    PROXY = 1


class Family(IntEnum):
    """The family of the addresses."""

    UNSPEC = 0
    INET = 1
    INET6 = 2
    UNIX = 3


class Transport(IntEnum):
    """What the client speaks to the proxy."""

    UNSPEC = 0
    STREAM = 1
    DGRAM = 2


@frozen
class Rules:
    """What a receiver accepts where the specification leaves a choice."""

    max_length: int = DEFAULT_MAX_LENGTH
    """Bytes after the first 16 of a header of version 2, at most `MAX_LENGTH`."""
    transport: Transport = Transport.STREAM
    """The receiver's own transport."""
    unspec: bool = True
    """False to reject headers without addresses: UNKNOWN of version 1, UNSPEC of version 2."""
    other_transport: bool = False
    """True to accept headers for the other transport; the receiver's own addresses stand."""


Endpoint = tuple[str, int] | str
"""A numeric address and a port; or the path of a unix socket, with ``@`` for its first NUL byte."""


@define(unsafe_hash=True)
class Header:
    """A valid header: a value, which is not changed.

    Without *source* and *destination* it says nothing about a client: the addresses of the
    connection itself stand.
    """

    version: int
    """1 or 2."""
    size: int
    """Bytes of the whole header; what follows them is the client's."""
    command: Command = Command.PROXY
    family: Family = Family.UNSPEC
    transport: Transport = Transport.UNSPEC
    source: Endpoint | None = None
    destination: Endpoint | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()
    """Pairs of a type and a value, in the order of the header."""

    def tlv(self, kind: int) -> bytes | None:
        """Return the first value of a type; None if there is none."""
        return first_of(self.tlvs, kind)

    @property
    def alpn(self) -> bytes | None:
        """The application's protocol that the client has negotiated: ``b"h2"``."""
        return self.tlv(ALPN)

    @property
    def authority(self) -> bytes | None:
        """The host name that the client has asked for, mostly by SNI."""
        return self.tlv(AUTHORITY)

    @property
    def unique_id(self) -> bytes | None:
        """The proxy's identifier of the connection, up to 128 bytes."""
        return self.tlv(UNIQUE_ID)

    @property
    def netns(self) -> bytes | None:
        """The name of the network namespace."""
        return self.tlv(NETNS)

    @property
    def ssl(self) -> SSLInfo | None:
        """What the proxy says about the client's TLS; None if nothing, or if it is malformed."""
        value = self.tlv(SSL)
        return None if value is None else parse_ssl(value)

    @property
    def aws_vpce_id(self) -> str | None:
        """The id of the VPC endpoint, from an AWS Network Load Balancer."""
        return vendor_id(self.tlvs, "aws_vpce_id")

    @property
    def azure_pel_id(self) -> str | None:
        """The link id of the private endpoint, from Azure."""
        return vendor_id(self.tlvs, "azure_pel_id")

    @property
    def gcp_conn_id(self) -> str | None:
        """The id of the Private Service Connect connection, from Google Cloud."""
        return vendor_id(self.tlvs, "gcp_conn_id")

    def describe(self) -> dict[str, Any]:
        """Return what the header says beside its addresses, ready for JSON.

        Texts of the peer are escaped.
        """
        return {"version": self.version, "command": self.command.name} | describe_tlvs(self.tlvs)
