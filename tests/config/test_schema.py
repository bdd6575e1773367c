"""The JSON Schema of the file: valid itself, and of one mind with the reader."""

import json
import tomllib

import jsonschema
import pytest

from netsrv.config.schema import DIALECT, FILE, make_schema, schema_text
from netsrv.config.toml import read_configuration
from netsrv.registry import find_services

SCHEMA = make_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

RIGHT = """
shutdown_timeout = 8
shutdown_delay = 0
workers = 2
worker_selection = "source"
log_level = "debug"
log_format = "json"
quiet = false
log_rate = 0
access_log = "-"
access_log_datagrams = true

[status]
address = "127.0.0.1:8423"
health = "unix:health.sock"
token_file = "token"
unix_mode = "0660"
hosts = ["status.example.org"]

[control]
address = "127.0.0.1:8474"
token_file = "control-token"
unix_mode = "0660"
hosts = ["toxiproxy"]

[[listener]]
service = "echo"
tcp = "127.0.0.1:7007"
backlog = 4096
reuse_port = true
reuse_address = false
socket_options = { SO_RCVBUF = 1048576, SO_LINGER = "1:0" }

[listener.limits]
max_connections = "auto"
overload = "close"
per_source = 20
connection_rate = "50:100"
idle_timeout = 60
lifetime = 0.5
write_timeout = "none"
close_grace = 1

[listener.access]
only_from = ["127.0.0.0/8", "2001:db8::/32"]
no_access = []

[listener.proxy_protocol]
from = ["10.0.0.5", "2001:db8::/32"]
header_timeout = 3
max_length = 65535
per_proxy = 100
unspec = "reject"
other_transport = "accept"

[listener.tls]
certificate = ["server.pem", "other.pem"]
key = ["server.key", "other.key"]
client_ca = "clients.pem"
client_verify = "optional"
crl = "revoked.pem"
alpn = ["h2", "http/1.1"]
min_version = "1.3"
ciphers = "ECDHE+AESGCM"
ciphersuites = "TLS_AES_128_GCM_SHA256"
groups = "X25519"
session_tickets = false
strict_sni = true
handshake_timeout = 2.5

[[listener.fault]]
type = "latency"
latency = 200
first = 3

[[listener]]
udp = "[::1]:same"
limits = { datagram_rate = "none", refuse_source_ports = [7, "20-21"] }

[[listener]]
tcp = 7
limits = { connection_rate = 5.5, refuse_source_ports = "none" }

[[listener]]
unix = "daytime.sock"
service = "daytime"
mode = "0660"

[[listener]]
unix = "qotd.sock"
mode = 0o600
settings = {}
service = "qotd"
"""

WRONG = [
    "shutdown_timeout = 0",
    "shutdown_timeout = '8'",
    "log_level = 'loud'",
    "quiet = 1",
    "log_rate = 1.5",
    "acces_log = '-'",
    "status = 8423",
    "[status]\naddress = 70000",
    "[status]\nhealth = 'localhost'",
    "[status]\nhosts = ['not a name']",
    "[status]\ntoken = 'secret'",
    "control = 8474",
    "[control]\naddress = 70000",
    "[control]\nport = 8474",
    "listener = 5",
    "[listener]\ntcp = 7",
    "[[listener]]",
    "[[listener]]\ntcp = 7\nudp = 7",
    "[[listener]]\ntcp = 70000",
    "[[listener]]\ntcp = '127.0.0.1'",
    "[[listener]]\nunix = ''",
    "[[listener]]\ntcp = 7\nservise = 'echo'",
    "[[listener]]\ntcp = 7\nmax_connections = 5",
    "[[listener]]\ntcp = 7\nlimits = { max_connections = 0 }",
    "[[listener]]\ntcp = 7\nlimits = { max_connections = 'many' }",
    "[[listener]]\ntcp = 7\nlimits = { overload = 'drop' }",
    "[[listener]]\ntcp = 7\nlimits = { connection_rate = 'fast' }",
    "[[listener]]\ntcp = 7\nlimits = { refuse_source_ports = [70000] }",
    "[[listener]]\ntcp = 7\naccess = { only_from = '10.0.0.0/8' }",
    "[[listener]]\nunix = 's'\nmode = '666x'",
    "[[listener]]\ntcp = 7\nsocket_options = { NODELAY = 1 }",
    "[[listener]]\ntcp = 7\nsocket_options = { SO_RCVBUF = 1.5 }",
    "[[listener]]\ntcp = 7\nsettings = 5",
]


def test_the_schema_is_one_of_draft_2020_12():
    """Its own meta-schema accepts it."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == DIALECT == jsonschema.Draft202012Validator.META_SCHEMA["$id"]


def test_the_file_of_the_package_is_up_to_date():
    """``python -m netsrv.config.schema`` writes it again."""
    assert FILE.read_text() == schema_text()
    assert json.loads(schema_text()) == SCHEMA


def test_what_the_reader_takes_the_schema_takes(tmp_path):
    """Every key with each form of its value is valid."""
    (tmp_path / "netsrv.toml").write_text(RIGHT)
    read_configuration(str(tmp_path / "netsrv.toml"), find_services())
    VALIDATOR.validate(tomllib.loads(RIGHT))


def test_the_example_has_every_key():
    """So each key's schema is tried."""
    document = tomllib.loads(RIGHT)
    keys = {key for listener in document["listener"] for key in listener}
    tables = {key for table in document["listener"] for key in table.get("limits", ())}
    properties = SCHEMA["properties"]
    listener = properties["listener"]["items"]["properties"]
    assert document.keys() == properties.keys()
    assert document["status"].keys() == properties["status"]["properties"].keys()
    assert document["control"].keys() == properties["control"]["properties"].keys()
    assert keys == listener.keys()
    assert tables == listener["limits"]["properties"].keys()
    for name in ("proxy_protocol", "tls"):
        inner = {key for table in document["listener"] for key in table.get(name, ())}
        assert inner == listener[name]["properties"].keys()


@pytest.mark.parametrize("text", WRONG)
def test_what_the_schema_refuses_the_reader_refuses(text, tmp_path):
    """An editor marks mistakes only."""
    assert not VALIDATOR.is_valid(tomllib.loads(text))
    (tmp_path / "netsrv.toml").write_text(text)
    with pytest.raises(Exception, match=r"netsrv\.toml"):
        read_configuration(str(tmp_path / "netsrv.toml"), find_services())
