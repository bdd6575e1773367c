"""The sockets of a master: how the kernel chooses among them."""

import random
import select
import socket
from collections import Counter
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

import pytest

from netsrv.config.model import ListenerSettings, WorkerSelection
from netsrv.sockets import steering
from netsrv.sockets.addresses import InternetAddress
from netsrv.sockets.steps import AddressUnavailable
from netsrv.workers.sockets import add_slots, close_shared, open_shared, reopen_shared
from tests.clients import CLIENT_TIMEOUT

pytestmark = pytest.mark.skipif(not steering.CAN_SHARE, reason="the kernel does not share sockets")

SLOTS = 4


@contextmanager
def opened(transport, selection, host="127.0.0.1", slots=SLOTS):
    """The sockets of one listener."""
    settings = ListenerSettings(transport, "echo", InternetAddress(host, 0))
    [shared] = open_shared([(0, settings)], slots, selection)
    try:
        yield shared
    finally:
        close_shared([shared])


def slots_of_connections(shared, sources):
    """Connect from each source, and return the slots that the connections wait in."""
    port = shared.sockets[0].port
    with ExitStack() as stack:
        for source in sources:
            family = socket.AF_INET6 if ":" in source else socket.AF_INET
            sock = stack.enter_context(socket.socket(family))
            sock.settimeout(CLIENT_TIMEOUT)
            sock.bind((source, 0))
            sock.connect(("::1" if ":" in source else "127.0.0.1", port))
        found = {}
        for slot, one in enumerate(shared.sockets):
            while True:
                try:
                    connection, peer = one.sock.accept()
                except BlockingIOError:
                    break
                connection.close()
                found[peer[0].removeprefix("::ffff:")] = slot
        return found


def slots_of_datagrams(shared, sources):
    """Send a datagram from each source, and return the slots that receive them."""
    for source in sources:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            sock.sendto(b"", ("127.0.0.1", shared.sockets[0].port))
    found = {}
    for slot, one in enumerate(shared.sockets):
        while True:
            try:
                found[one.sock.recvfrom(10)[1][0].removeprefix("::ffff:")] = slot
            except BlockingIOError:
                break
    return found


def random_sources(seed, count=100):
    """Return addresses of this machine."""
    chance = random.Random(seed)
    return sorted({f"127.{chance.randrange(256)}.{chance.randrange(256)}.9" for _ in range(count)})


def expected(sources, slots=SLOTS):
    """Return the slot of each source as it is computed."""
    return {source: steering.index_of(ip_address(source).packed, slots) for source in sources}


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_a_source_has_its_worker(host):
    """Which one it is can be computed, on sockets of both families too."""
    sources = random_sources(1)
    with opened("tcp", WorkerSelection.SOURCE, host) as shared:
        assert slots_of_connections(shared, sources) == expected(sources)
        if host == "::":
            assert slots_of_connections(shared, ["::1"]) == expected(["::1"])


@pytest.mark.parametrize("selection", [WorkerSelection.HASH, WorkerSelection.SHARED])
def test_datagrams_always_go_by_their_source(selection):
    """All datagrams of a client meet the same state, whatever is chosen for connections."""
    sources = random_sources(2)
    with opened("udp", selection) as shared:
        assert slots_of_datagrams(shared, sources) == expected(sources)


def test_the_kernels_hash_spreads_connections_of_one_source():
    """Each slot gets its part."""
    with opened("tcp", WorkerSelection.HASH) as shared:
        port = shared.sockets[0].port
        with ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT))
            counts = Counter()
            for slot, one in enumerate(shared.sockets):
                while select.select([one.sock], [], [], 0)[0]:
                    one.sock.accept()[0].close()
                    counts[slot] += 1
    assert counts.total() == 200
    assert min(counts.values()) > 20
    assert len(counts) == SLOTS


def test_one_queue_for_all():
    """A shared listener has one socket."""
    with opened("tcp", WorkerSelection.SHARED) as shared:
        assert len(shared.sockets) == 1
        assert shared.socket_of(3) is shared.sockets[0]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_slot_can_be_added_to_a_steered_listener(transport):
    """Sources are spread over the new number of slots; what waits in a queue stays there."""
    sources = random_sources(3)
    slots_of = slots_of_connections if transport == "tcp" else slots_of_datagrams
    with opened(transport, WorkerSelection.SOURCE, slots=2) as shared:
        add_slots([shared], 3, WorkerSelection.SOURCE)
        assert slots_of(shared, sources) == expected(sources, 3)


def test_the_cpu_chooses_a_slot():
    """All connections are in some queue: which one depends on the kernel."""
    with opened("tcp", WorkerSelection.CPU) as shared:
        sources = random_sources(4)
        assert slots_of_connections(shared, sources).keys() == set(sources)


def test_f93_an_address_that_could_be_shared_is_in_use():
    """The kernel would let a second server of the user take connections from the first."""
    with opened("tcp", WorkerSelection.HASH) as shared:
        address = InternetAddress("127.0.0.1", shared.sockets[0].port)
        settings = ListenerSettings("tcp", "echo", address)
        with pytest.raises(AddressUnavailable, match="already in use"):
            open_shared([(0, settings)], SLOTS, WorkerSelection.HASH)


def test_a_reload_keeps_sockets_by_their_addresses():
    """New ones are opened, also beside equal addresses with port 0, and none is closed."""
    with opened("tcp", WorkerSelection.HASH) as shared:
        added = ListenerSettings("udp", "echo", InternetAddress("127.0.0.1", 0))
        again = reopen_shared(
            [shared], [(0, added), (1, shared.settings), (2, shared.settings)], SLOTS, "hash"
        )
        try:
            assert again[1].sockets is shared.sockets
            assert again[2].sockets is not shared.sockets
            assert [listener.index for listener in again] == [0, 1, 2]
            assert len(again[0].sockets) == SLOTS
        finally:
            close_shared([again[0], again[2]])
