"""corrupt and packet_loss."""

from tests.faults.lines import Line, make_fault


def flipped(before, after):
    """Return the number of bits in which two texts differ."""
    return sum((one ^ other).bit_count() for one, other in zip(before, after, strict=True))


def test_corrupt_flips_the_bits_it_is_asked_for_in_each_chunk():
    """Corrupt flips the bits it is asked for in each chunk."""
    line = Line(make_fault("corrupt", bits=3, seed=1))
    for _ in range(50):
        line.connection.write(bytes(64))
    assert [flipped(bytes(64), event[2]) for event in line.peer.events] == [3] * 50


def test_corrupt_at_an_offset_changes_that_place_once_whatever_the_chunks():
    """Corrupt at an offset changes that place once whatever the chunks."""
    for sizes in ([100], [10] * 10, [1] * 100):
        line = Line(make_fault("corrupt", bits=2, offset=42))
        for size in sizes:
            line.connection.write(bytes(size))
        changed = [index for index, byte in enumerate(line.peer.data) if byte]
        assert changed == [42]
        assert flipped(bytes(100), line.peer.data) == 2


def test_corrupt_replaces_bytes_by_others():
    """Corrupt replaces bytes by others."""
    line = Line(make_fault("corrupt", bytes=4, offset=10))
    line.connection.write(bytes(100))
    assert [index for index, byte in enumerate(line.peer.data) if byte] == [10, 11, 12, 13]


def test_selectors_of_corrupt_count_chunks():
    """Selectors of corrupt count chunks."""
    fault = make_fault("corrupt", skip=1, every=2, first=2)
    line = Line(fault)
    for _ in range(10):
        line.connection.write(bytes(10))
    hit = [bool(any(event[2])) for event in line.peer.events]
    assert hit == [False, False, True, False, True, *[False] * 5]
    assert fault.hits == 2


def test_packet_loss_drops_whole_chunks_by_its_rate():
    """Packet loss drops whole chunks by its rate."""
    line = Line(make_fault("packet_loss", loss_rate=0.3, seed=7))
    for number in range(1000):
        line.connection.write(b"%3d" % number)
    kept = [int(event[2]) for event in line.peer.events]
    assert kept == sorted(kept)
    assert 640 < len(kept) < 760
