"""The report of --check, as text and as JSON."""

import json
import re

import pytest

from netsrv import __version__
from netsrv.cli import check as module
from netsrv.cli.check import check
from netsrv.config.command_line import from_command_line
from netsrv.config.toml import read_configuration
from netsrv.registry import find_services

FILE = """
access_log = "access.log"
quiet = true

[[listener]]
tcp = "127.0.0.1:0"
limits = { max_connections = 5000, connection_rate = "50:100", idle_timeout = 2.5 }
access = { only_from = ["10.0.0.0/8", "::1"] }

[[listener]]
service = "qotd"
unix = "qotd.sock"
mode = "0660"
settings = { file = "quotes" }

[[listener]]
udp = "127.0.0.1:0"
"""

REPORT = """\
tcp 127.0.0.1:PORT (accept)
  option                  asked for    in effect
  SO_REUSEADDR                    1            1
  TCP_NODELAY                     1            1
  backlog                      1024 NUMBER

  max_connections      960 (5000 asked for: 1024 descriptors less 64)
  overload             pause
  per_source           none
  connection_rate      50:100
  only_from            10.0.0.0/8, ::1/128
  no_access            none
  idle_timeout         2.5
  lifetime             none
  write_timeout        60
  close_grace          5

unix FOLDER/qotd.sock (qotd)
  option                  asked for    in effect
  backlog                      1024 NUMBER

  max_connections      960 (auto: 1024 descriptors less 64)
  overload             pause
  per_source           none
  connection_rate      none
  idle_timeout         none
  lifetime             none
  write_timeout        60
  close_grace          5
  mode                 0660
  settings.file        FOLDER/quotes

udp 127.0.0.1:PORT (echo)
  option                  asked for    in effect
  SO_REUSEADDR                    0            0

  only_from            all
  no_access            none
  datagram_rate        1000
  refuse_source_ports  0-1023,2049

the server
  version              VERSION
  configuration        FOLDER/netsrv.toml
  descriptors          1024, 64 reserved: 960 for peers
  shutdown_timeout     8
  shutdown_delay       0
  workers              1
  worker_selection     hash
  log_level            info
  quiet                true
  log_format           text
  log_rate             100
  access_log           FOLDER/access.log
  access_log_datagrams false
  status.address       off
  status.health        off
  status.token_file    none
  status.unix_mode     what the umask leaves
  status.hosts         none
  control.address      off
  control.token_file   none
  control.unix_mode    what the umask leaves
  control.hosts        none
"""


@pytest.fixture
def configuration(tmp_path, monkeypatch):
    """The configuration of `FILE`, in a process with 1,024 descriptors."""
    monkeypatch.setattr(module, "descriptor_limit", lambda: 1024)
    (tmp_path / "quotes").write_text("One.\n")
    (tmp_path / "netsrv.toml").write_text(FILE)
    return read_configuration(str(tmp_path / "netsrv.toml"), find_services())


def test_the_report_shows_all_that_is_in_effect(configuration, tmp_path):
    """It has options, limits, access, settings, paths, descriptors and the server's settings."""
    report = "".join(f"{line}\n" for line in check(configuration, find_services()))
    for pattern, word in (
        (re.escape(str(tmp_path)), "FOLDER"),
        (re.escape(__version__), "VERSION"),
        (r"(?<=127\.0\.0\.1:)\d+", "PORT"),
        (r"(?<=backlog                      1024) +\d+", " NUMBER"),
    ):
        report = re.sub(pattern, word, report)
    assert report == REPORT


def test_the_report_shows_the_faults_of_a_listener(configuration):
    """With all that is set; in JSON as in a file."""
    faults = ["latency:latency=200,only_from=10.0.0.0/8", "loss:model=gilbert,p=0.1,seed=7"]
    listeners = [("udp", "127.0.0.1:0"), ("tcp", "127.0.0.1:0")]
    configuration = from_command_line(listeners, {"fault": faults})
    rows = [line for line in check(configuration, find_services()) if "fault" in line]
    latency = "latency:name=latency_downstream,latency=200,only_from=10.0.0.0/8"
    assert rows == [
        f"  fault                {latency}",
        "  fault                loss:name=loss_downstream,model=gilbert,p=0.1,seed=7",
        f"  fault                {latency}",
    ]
    report = json.loads("\n".join(check(configuration, find_services(), as_json=True)))
    datagrams, stream = (listener["fault"] for listener in report["listeners"])
    table = {
        "type": "latency",
        "name": "latency_downstream",
        "latency": 200,
        "only_from": ["10.0.0.0/8"],
    }
    assert stream == [table]
    loss = {"type": "loss", "name": "loss_downstream", "model": "gilbert", "p": 0.1, "seed": 7}
    assert datagrams == [table, loss]


def test_the_report_as_json(configuration, tmp_path):
    """It is one object with the same facts, for programs."""
    report = json.loads("\n".join(check(configuration, find_services(), as_json=True)))
    listeners = report.pop("listeners")
    assert report == {
        "version": __version__,
        "configuration": f"{tmp_path}/netsrv.toml",
        "descriptors": {"limit": 1024, "reserved": 64, "connections": 960},
        "shutdown_timeout": 8,
        "shutdown_delay": 0,
        "workers": 1,
        "worker_selection": "hash",
        "log_level": "info",
        "quiet": True,
        "log_format": "text",
        "log_rate": 100,
        "access_log": f"{tmp_path}/access.log",
        "access_log_datagrams": False,
        "status": {
            "address": None,
            "health": None,
            "token_file": None,
            "unix_mode": None,
            "hosts": [],
            "note": None,
        },
        "control": {
            "address": None,
            "token_file": None,
            "unix_mode": None,
            "hosts": [],
            "note": None,
        },
    }
    stream, unix, datagrams = listeners
    assert (stream["transport"], stream["service"], stream["note"]) == ("tcp", "accept", None)
    assert stream["options"][0] == {"name": "SO_REUSEADDR", "asked": 1, "in_effect": 1}
    assert stream["limits"] == {
        "max_connections": 960,
        "overload": "pause",
        "per_source": None,
        "connection_rate": "50:100",
        "idle_timeout": 2.5,
        "lifetime": None,
        "write_timeout": 60,
        "close_grace": 5,
    }
    assert stream["access"] == {"only_from": ["10.0.0.0/8", "::1/128"], "no_access": []}
    assert unix["address"] == f"{tmp_path}/qotd.sock"
    assert (unix["mode"], unix["settings"]) == ("0660", {"file": f"{tmp_path}/quotes"})
    assert datagrams["limits"] == {"datagram_rate": "1000", "refuse_source_ports": "0-1023,2049"}
    assert (stream["fault"], unix["fault"], datagrams["fault"]) == ([], [], [])
    assert unix["configured_at"].endswith("netsrv.toml: listener[1]")
