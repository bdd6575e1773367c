"""Batches at the gate: rules, replies, and the address from which a reply leaves."""

import socket

import pytest
from twisted.internet.protocol import DatagramProtocol

from netsrv.guards.rates import Rate
from netsrv.interfaces import DropReason
from netsrv.services.discard import DiscardDatagrams
from tests.datagrams.wires import (
    GatedPort,
    Wire,
    both_kinds,
    bound,
    every_form,
    kernel_forms,
    numbered,
)

on_linux = pytest.mark.skipif("sys.platform != 'linux'", reason="other kernels are not asked")


@every_form
@both_kinds
def test_f30_rejected_datagrams_are_removed_from_a_batch(wire, service):
    """The others are answered in order; the observer gets each with the reason."""
    port = GatedPort(wire, service(), refused=frozenset({wire.peers[1][1]}))
    for number, datagram in enumerate(numbered(30)):
        wire.arrive(datagram, number % 3)
    port.read()
    assert [wire.received(number) for number in range(3)] == [
        numbered(30)[0::3],
        [],
        numbered(30)[2::3],
    ]
    refused = port.observed("datagrams_refused")
    assert [size for _, size, _ in refused] == [len(datagram) for datagram in numbered(30)[1::3]]
    assert {(peer, reason) for peer, _, reason in refused} == {
        (wire.peers[1], DropReason.SOURCE_PORT)
    }
    assert port.observed("datagrams_received") == [
        (wire.peers[number % 3], len(datagram))
        for number, datagram in enumerate(numbered(30))
        if number % 3 != 1
    ]


@every_form
@both_kinds
def test_f30_a_batch_of_rejected_datagrams_is_not_served(wire, service):
    """The service is not called."""
    port = GatedPort(wire, service(), refused=frozenset({wire.peers[1][1]}))
    wire.arrive_all(numbered(8), 1)
    port.read()
    assert wire.received(1) == []
    assert len(port.observed("datagrams_refused")) == 8
    assert port.observed("datagrams_received") == []


@pytest.mark.parametrize("form", ["memory"], indirect=True)
@both_kinds
def test_f36_a_rate_holds_within_a_batch(wire, service):
    """Of each source, the first are answered, as many as there are tokens."""
    port = GatedPort(wire, service(), rate=Rate(1, 5))
    wire.peers[1] = ("192.0.2.2", 1234)
    for number, datagram in enumerate(numbered(20)):
        wire.arrive(datagram, number % 2)
    port.read()
    assert wire.received(0) == numbered(20)[0:10:2]
    assert wire.received(1) == numbered(20)[1:10:2]
    reasons = {reason for _, _, reason in port.observed("datagrams_refused")}
    assert reasons == {DropReason.DATAGRAM_RATE}


@every_form
def test_f35_each_request_of_a_batch_has_a_reply_budget_of_its_own(wire):
    """What one request leaves over is not for the next."""

    class Long(DatagramProtocol):
        def datagramReceived(self, datagram, addr):
            self.transport.write(bytes(56 + int(datagram)), addr)

    port = GatedPort(wire, Long())
    wire.arrive_all([b"0", b"3", b"4", b"1"])  # a request of 1 byte may get 59
    port.read()
    assert [len(reply) for reply in wire.received()] == [56, 59, 57]
    assert [size for _, size, _ in port.observed("datagrams_refused")] == [60]


@every_form
def test_f25_discard_answers_nothing(wire):
    """Its datagrams are reported as received."""
    port = GatedPort(wire, DiscardDatagrams())
    wire.arrive_all(numbered(8))
    port.read()
    assert wire.received() == []
    assert len(port.observed("datagrams_received")) == 8


@kernel_forms
@on_linux
@pytest.mark.parametrize("listener", ["0.0.0.0", "::"])
@both_kinds
def test_f42_each_reply_of_a_batch_leaves_from_the_address_asked(form, listener, service):
    """Though requests to several addresses are side by side, and some were dropped."""
    wire = Wire(listener)
    port = GatedPort(wire, service(), refused=frozenset({wire.peers[1][1]}))
    hosts = [f"127.0.0.{number % 5 + 1}" for number in range(30)]
    for number, host in enumerate(hosts):
        wire.arrive(b"%d" % number, number % 2 * 2, host)
        wire.arrive(b"dropped", 1, host)
    port.read()
    for number in (0, 2):
        expected = [(b"%d" % n, hosts[n]) for n in range(number // 2, 30, 2)]
        assert [(data, peer[0]) for data, peer in wire.received_from(number)] == expected
    assert len(port.observed("datagrams_refused")) == 30
    wire.close()


@kernel_forms
@on_linux
@both_kinds
def test_f42_ipv6_and_ipv4_peers_in_one_batch(form, service):
    """A socket for both families answers each."""
    try:
        wire = Wire("::")
        client = bound("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    port = GatedPort(wire, service())
    with client:
        for datagram in numbered(10):
            wire.arrive(datagram)
            client.sendto(datagram, ("::1", wire.server[1]))
        port.read()
        assert wire.received() == numbered(10)
        assert [client.recvfrom(100)[0] for _ in range(10)] == numbered(10)
        for turn in range(4):  # a flow is known at whichever index of a batch it comes
            for number in range(6):
                if (turn + number) % 2:
                    wire.arrive(b"again")
                else:
                    client.sendto(b"again", ("::1", wire.server[1]))
            port.read()
        ipv6_peer = client.getsockname()[:2]
    assert form != "batched" or len(port.port._io._kernel_flows) == 2
    peers = {peer for peer, _ in port.observed("datagrams_received")}
    assert peers == {("::ffff:127.0.0.1", wire.peers[0][1]), ipv6_peer}
    wire.close()


@kernel_forms
@on_linux
@both_kinds
def test_f42_other_control_messages_of_the_kernel_are_not_sent_back(form, service):
    """The kernel would reject them (EINVAL)."""
    wire = Wire("0.0.0.0")
    timestamp, rxq_ovfl = 29, 40  # SO_TIMESTAMP, SO_RXQ_OVFL
    for option in (timestamp, rxq_ovfl):
        wire.sock.setsockopt(socket.SOL_SOCKET, option, 1)
    wire.sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    port = GatedPort(wire, service())
    for datagram in numbered(8):
        wire.arrive(datagram, 0, "127.0.0.2")
    port.read()
    server = ("127.0.0.2", wire.server[1])
    assert wire.received_from() == [(datagram, server) for datagram in numbered(8)]
    assert port.dropped == []
    wire.close()


OPTIONS = {
    "SO_TIMESTAMP": (socket.SOL_SOCKET, 29, 1),
    "SO_TIMESTAMPNS": (socket.SOL_SOCKET, 35, 1),
    "SO_TIMESTAMPING": (socket.SOL_SOCKET, 37, 0x18),  # SOFTWARE, RX_SOFTWARE
    "SO_RXQ_OVFL": (socket.SOL_SOCKET, 40, 1),
    "IP_RECVTOS": (socket.IPPROTO_IP, socket.IP_RECVTOS, 1),
    "IP_RECVTTL": (socket.IPPROTO_IP, 12, 1),
    "IP_RECVORIGDSTADDR": (socket.IPPROTO_IP, 20, 1),
}
"""Options with which further messages come beside each datagram."""


@kernel_forms
@on_linux
@pytest.mark.parametrize("listener", ["0.0.0.0", "::"])
@both_kinds
def test_f42_options_may_change_while_datagrams_come(form, listener, service):
    """Replies leave from the address asked, whichever messages come and whatever came before."""
    wire = Wire(listener)
    port = GatedPort(wire, service())
    hosts = ["127.0.0.1", "127.0.0.2"]
    for level, option, value in [*OPTIONS.values(), (*OPTIONS["SO_TIMESTAMP"][:2], 0)]:
        for number, datagram in enumerate(numbered(8)):
            wire.arrive(datagram, 0, hosts[number % 2])
            if number == 3:  # those that wait in the socket came without the message
                wire.sock.setsockopt(level, option, value)
        port.read()
        assert [(data, peer[0]) for data, peer in wire.received_from()] == [
            (datagram, hosts[number % 2]) for number, datagram in enumerate(numbered(8))
        ]
    assert port.dropped == []
    wire.close()


@kernel_forms
@on_linux
@both_kinds
def test_f42_messages_of_one_socket_do_not_mix_with_those_of_another(form, service):
    """Sockets of both families, with and without control messages, share the arrays."""
    wires = [Wire(host) for host in ("0.0.0.0", "::", "127.0.0.1")]
    ports = [GatedPort(wire, service()) for wire in wires]
    for turn in range(3):
        for wire, port in zip(wires, ports, strict=True):
            host = "127.0.0.1" if wire is wires[2] or turn == 1 else "127.0.0.2"
            for datagram in numbered(7):
                wire.arrive(datagram, 0, host)
            port.read()
            server = (host, wire.server[1])
            assert wire.received_from() == [(datagram, server) for datagram in numbered(7)]
    if form == "batched":
        assert [len(port.port._io._kernel_flows) for port in ports] == [2, 2, 1]
    for wire in wires:
        wire.close()


@kernel_forms
@on_linux
@both_kinds
def test_f34_a_datagram_before_pktinfo_is_beside_others(form, service):
    """One that had come before the port asked for the address is answered too."""
    wire = Wire("0.0.0.0")
    wire.arrive_all([b"early"] * 3)
    port = GatedPort(wire, service())
    for datagram in numbered(6):
        wire.arrive(datagram, 0, "127.0.0.2")
    port.read()
    assert wire.received() == [b"early"] * 3 + numbered(6)
    wire.close()


@kernel_forms
@on_linux
@both_kinds
def test_f42_a_link_local_peer_in_a_batch_is_answered_over_its_interface(form, service):
    """The observers get its scope; a socket for both families answers each."""
    address = link_local()
    wire = Wire("::")
    port = GatedPort(wire, service())
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.bind(address)
        client.setblocking(False)
        for datagram in numbered(8):
            client.sendto(datagram, (address[0], wire.server[1], 0, address[3]))
            wire.arrive(datagram)
        port.read()
        assert [client.recvfrom(100)[0] for _ in range(8)] == numbered(8)
        peer = (f"{address[0]}%{address[3]}", client.getsockname()[1])
    assert wire.received() == numbered(8)
    assert peer in {peer for peer, _ in port.observed("datagrams_received")}
    wire.close()


def link_local():
    """Return a link-local address of this machine for `bind`, or skip the test."""
    try:
        with open("/proc/net/if_inet6") as table:
            for line in table:
                packed, index, _, scope, *_ = line.split()
                if scope == "20":
                    host = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed))
                    return host, 0, 0, int(index, 16)
    except OSError:
        pass
    pytest.skip("no interface here has a link-local address")
