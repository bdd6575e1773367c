"""The forms of receiving and sending that a port may use, and a wire for each."""

import pytest

from netsrv.datagrams import batched
from tests.datagrams.wires import BATCHES, MemoryWire, Wire


@pytest.fixture
def form(request, monkeypatch):
    """The calls of a port: always many, single ones first, single ones, or those in memory."""
    if request.param == "batched":
        if not BATCHES:
            pytest.skip("this system has no recvmmsg")
        monkeypatch.setattr(batched, "SINGLE_RUN", 0)
        monkeypatch.setattr(batched, "MIN_BATCH_SEND", 0)
    elif request.param == "single":
        monkeypatch.setattr(batched, "usable", lambda sock: False)
    return request.param


@pytest.fixture
def wire(form):
    """A wire for the form."""
    wire = MemoryWire() if form == "memory" else Wire()
    yield wire
    wire.close()
