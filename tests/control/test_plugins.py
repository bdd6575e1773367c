"""The control API takes the types of faults that plugins add."""

from types import SimpleNamespace

from netsrv.control.proxies import Proxy
from netsrv.control.toxics import read_toxic
from netsrv.faults.stages import Stage
from netsrv.registry import FaultTypes


def test_a_toxic_may_be_of_a_plugin(monkeypatch):
    """By its name, on the transport that it is for."""
    shout = SimpleNamespace(name="shout", description="", attributes=None, stage=Stage)
    types = FaultTypes(streams={"shout": shout})
    monkeypatch.setattr("netsrv.config.fault_reading.plugin_types", lambda: types)
    streams, datagrams = (Proxy(None, "p", "", "", udp) for udp in (False, True))
    toxic = read_toxic({"type": "shout", "toxicity": 0.5}, streams.find_kind)
    assert (toxic.name, toxic.kind.stage, toxic.probability) == ("shout_downstream", Stage, 0.5)
    assert datagrams.find_kind("shout") is None
