"""The control API of a server process, and its clients: netsrv faults, and toxiproxy's own."""

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from netsrv.cli.command import main
from netsrv.config.control import ControlSettings
from netsrv.config.model import ConfigurationError
from netsrv.control.opening import open_control
from netsrv.sockets.addresses import InternetAddress
from tests.checkout import TOP
from tests.process.control import controlled_server
from tests.process.running import BIN, Running, free_port
from tests.timeouts import TIMEOUT

NODE_CLIENT = TOP / ".ci" / "node" / "node_modules" / "toxiproxy-node-client"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server of all tests of this module."""
    with controlled_server(tmp_path_factory.mktemp("control")) as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxies(server):
    """Each test begins without proxies and faults."""
    yield
    server.ask("POST", "/reset")
    for name, proxy in server.ask("GET", "/proxies")[1].items():
        if proxy["upstream"] != "echo":
            server.ask("DELETE", f"/proxies/{name}")


def echoed(port, data=b"hello", host="127.0.0.1"):
    """Return what comes back, and the seconds that it takes."""
    with closing(socket.create_connection((host, port), TIMEOUT)) as sock:
        began = time.monotonic()
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
        return received, time.monotonic() - began


def port_of(listen):
    """Return the port of an address."""
    return int(listen.rpartition(":")[2])


def test_both_addresses_of_loopback_are_served(server):
    """A client that looks `localhost` up may try either first."""
    for host in ("127.0.0.1", "::1", "localhost"):
        status, version = server.ask("GET", "/version", host=host)
        assert (status, list(version)) == (200, ["version"])


def test_a_server_that_is_controlled_needs_no_listener(tmp_path):
    """Its clients create the first proxy, as those of toxiproxy do."""
    file = tmp_path / "netsrv.toml"
    file.write_text('[control]\naddress = "127.0.0.1:0"\n')
    with Running(("netsrv", "serve", "--config", file.name), tmp_path) as running:
        port = running.wait_for(r"Serving control on http://127.0.0.1:(\d+)/")[1]
        url = f"http://127.0.0.1:{port}"
        listen = ("--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1")
        assert main(["faults", "--host", url, "create", "web", *listen]) == 0
        assert running.stop() == 0


def test_the_control_api_is_that_of_one_process(tmp_path):
    """Workers would have different proxies and faults."""
    command = (BIN / "netsrv", "serve", "--tcp", "127.0.0.1:0", "--control", "127.0.0.1:0")
    done = subprocess.run(
        [*command, "--workers", "2"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    text = "control: its proxies and faults are those of one process; leave out workers"
    assert (done.returncode, done.stderr) == (78, f"netsrv: {text}\n")


def test_a_page_of_another_site_changes_nothing(server):
    """Its requests have a browser's name, an origin, or the name of a host that it controls."""
    for header, value in (
        ("User-Agent", "Mozilla/5.0"),
        ("Origin", "http://attacker.example"),
        ("Host", "attacker.example"),
        ("Sec-Fetch-Site", "cross-site"),
    ):
        status, _ = server.ask("POST", "/proxies/echo", {"enabled": False}, **{header: value})
        assert status == 403, header
    assert server.ask("GET", "/proxies/echo")[1]["enabled"]


def test_a_content_that_is_too_long_is_refused(server):
    """The server holds no more than a mebibyte of it."""
    status, answer = server.ask("POST", "/proxies", {"name": "x" * 2**21})
    assert (status, answer["status"]) == (413, 413)


def test_the_listeners_of_the_server_are_proxies(server):
    """They take faults, are taken down and come again on their port, and are not deleted."""
    proxies = server.ask("GET", "/proxies")[1]
    assert {name: port_of(proxy["listen"]) for name, proxy in proxies.items()} == {
        "echo": server.tcp,
        "echo-udp": server.udp,
    }
    toxic = {"type": "limit_data", "attributes": {"bytes": 2}}
    assert server.ask("POST", "/proxies/echo/toxics", toxic)[0] == 200
    assert echoed(server.tcp)[0] == b"he"
    with closing(socket.create_connection(("127.0.0.1", server.tcp), TIMEOUT)) as live:
        assert server.ask("POST", "/proxies/echo", {"enabled": False})[1]["enabled"] is False
        assert live.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.tcp), TIMEOUT)
    assert server.ask("POST", "/proxies/echo", {"enabled": True})[1]["enabled"] is True
    assert server.ask("DELETE", "/proxies/echo/toxics/limit_data_downstream")[0] == 204
    assert echoed(server.tcp)[0] == b"hello"
    assert server.ask("DELETE", "/proxies/echo")[0] == 409
    assert server.ask("POST", "/proxies/echo", {"listen": "127.0.0.1:1"})[0] == 409


def test_a_fault_of_the_listener_changes_its_way(server):
    """Connections wait while it stalls, and are closed again when it closes them."""
    toxics = "/proxies/echo/toxics"
    server.ask("POST", toxics, {"type": "refuse", "attributes": {"how": "close"}})
    with closing(socket.create_connection(("127.0.0.1", server.tcp), TIMEOUT)) as refused:
        assert refused.recv(10) == b""
    change = f"{toxics}/refuse_downstream"
    assert server.ask("PATCH", change, {"attributes": {"how": "stall"}})[0] == 200
    with closing(socket.create_connection(("127.0.0.1", server.tcp), TIMEOUT)) as waiting:
        waiting.sendall(b"late")
        assert server.ask("PATCH", change, {"attributes": {"how": "close"}})[0] == 200
        with suppress(ConnectionResetError):  # what it has sent was not read
            assert waiting.recv(10) == b""
    server.ask("DELETE", change)
    assert echoed(server.tcp)[0] == b"hello"


@pytest.mark.parametrize(
    ("toxic", "status"),
    [
        ('{"type": "latency", "attributes": {"latency": 1%s}}' % ("0" * 400), 400),
        ('{"type": "latency", "attributes": {"latency": 1%s}}' % ("0" * 5000), 400),
        ('{"type": "latency", "name": [1]}', 400),
        ('{"type": "latency", "name": "disabled"}', 409),
    ],
)
def test_a_body_that_cannot_be_is_no_error_of_the_server(toxic, status, server):
    """The client learns that it is its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=TIMEOUT)
    with closing(connection):
        connection.request("POST", "/proxies/echo/toxics", toxic)
        assert connection.getresponse().status == status
    assert "Traceback" not in server.running.output


def test_datagrams_of_a_listener_that_is_down_are_refused(server):
    """As if there were no server; it comes again on its port."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", server.udp))
        server.ask("POST", "/proxies/echo-udp/toxics", {"type": "unreachable"})
        sock.send(b"lost")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(10)
        server.ask("DELETE", "/proxies/echo-udp/toxics/unreachable_downstream")
        sock.send(b"back")
        assert sock.recv(10) == b"back"


def test_faults_are_created_with_the_proxy_that_has_them(server):
    """So the first client meets them; a fault that is wrong creates nothing."""
    proxy = {"name": "p", "listen": "127.0.0.1:0", "upstream": server.upstream}
    wrong = proxy | {"faults": [{"type": "latency", "attributes": {"latency": "x"}}]}
    assert server.ask("POST", "/proxies", wrong)[0] == 400
    assert server.ask("GET", "/proxies/p")[0] == 404
    faults = [{"type": "refuse", "first": 2, "seed": 7}, {"type": "noop", "ttl": 3600}]
    status, created = server.ask("POST", "/proxies", proxy | {"faults": faults})
    assert (status, [toxic["type"] for toxic in created["toxics"]]) == (201, ["refuse", "noop"])
    port = port_of(created["listen"])
    assert [echoed_or_closed(port) for _ in range(3)] == [b"", b"", b"hello"]
    refuse, noop = server.ask("GET", "/proxies/p/toxics")[1]
    assert (refuse["hits"], refuse["first"], refuse["seed"]) == (2, 2, 7)
    assert 3500 < noop["expires_in"] <= 3600


def echoed_or_closed(port):
    """Return what comes back; nothing if the connection is closed."""
    try:
        return echoed(port)[0]
    except OSError:
        return b""


def test_a_proxy_of_datagrams(server):
    """It is one with a further key."""
    body = {
        "name": "d",
        "listen": "127.0.0.1:0",
        "upstream": f"127.0.0.1:{server.udp}",
        "protocol": "udp",
    }
    status, proxy = server.ask("POST", "/proxies", body)
    assert (status, proxy["protocol"]) == (201, "udp")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", port_of(proxy["listen"])))
        sock.send(b"hello")
        assert sock.recv(10) == b"hello"
        toxic = {"type": "duplicate", "attributes": {"copies": 1}}
        assert server.ask("POST", "/proxies/d/toxics", toxic)[0] == 200
        sock.send(b"twice")
        assert [sock.recv(10), sock.recv(10)] == [b"twice", b"twice"]


def test_live_connections_are_listed_and_ended(server):
    """With their addresses, their bytes, and what the upstream's side does."""
    body = {"name": "c", "listen": "127.0.0.1:0", "upstream": server.upstream}
    port = port_of(server.ask("POST", "/proxies", body)[1]["listen"])
    server.ask("POST", "/proxies/c/toxics", {"type": "noop"})
    with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT)) as sock:
        sock.sendall(b"abc")
        assert sock.recv(3) == b"abc"
        [shown] = server.ask("GET", "/proxies/c/connections")[1]
        assert shown["id"] == f"127.0.0.1:{sock.getsockname()[1]}"
        assert (shown["received"], shown["sent"], shown["toxics"]) == (3, 3, ["noop_downstream"])
        assert shown["upstream"] == server.upstream
        assert server.ask("DELETE", f"/proxies/c/connections/{shown['id']}")[0] == 204
        assert sock.recv(1) == b""
    assert server.ask("DELETE", f"/proxies/c/connections/{shown['id']}")[0] == 404


HARMLESS = [
    ("latency", {"latency": 100_000}),
    ("latency", {"latency": -5, "jitter": -5}),
    ("bandwidth", {"rate": 1}),
    ("bandwidth", {"rate": -1}),
    ("bandwidth", {"rate": 0}),
    ("slicer", {"average_size": 0, "size_variation": 0}),
    ("slicer", {"average_size": 100, "size_variation": 1000, "delay": 10}),
    ("slow_close", {"delay": 100_000}),
    ("limit_data", {"bytes": 10**12}),
    ("stall", {"after": 1}),
    ("noop", {}),
]


@pytest.mark.parametrize("stream", ["downstream", "upstream"])
def test_no_change_of_a_fault_waits_for_a_peer(server, stream):
    """With full buffers and a peer that does not read; afterwards every byte arrives."""
    data = bytes(range(256)) * 2**15  # 8 MiB
    with closing(socket.create_server(("127.0.0.1", 0))) as upstream:
        address = f"127.0.0.1:{upstream.getsockname()[1]}"
        body = {"name": "full", "listen": "127.0.0.1:0", "upstream": address}
        port = port_of(server.ask("POST", "/proxies", body)[1]["listen"])
        with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT)) as sock:
            other, _ = upstream.accept()
            source, reader = (other, sock) if stream == "downstream" else (sock, other)
            ending = (lambda: source.shutdown(socket.SHUT_WR)) if reader is other else source.close
            sender = threading.Thread(target=lambda: (source.sendall(data), ending()))
            sender.start()
            for kind, attributes in HARMLESS:
                toxic = {"name": "t", "type": kind, "attributes": attributes, "stream": stream}
                assert server.ask("POST", "/proxies/full/toxics", toxic)[0] == 200
                change = {"attributes": attributes, "toxicity": 0.5}
                assert server.ask("POST", "/proxies/full/toxics/t", change)[0] == 200
                assert server.ask("DELETE", "/proxies/full/toxics/t")[0] == 204
            received = bytearray()
            while chunk := reader.recv(1 << 20):
                received += chunk
            sender.join(TIMEOUT)
            other.close()
        assert received == data


def test_a_fault_with_odd_values_passes_data_on(server):
    """Each of these has killed other servers, or stopped them."""
    body = {"name": "odd", "listen": "127.0.0.1:0", "upstream": server.upstream}
    port = port_of(server.ask("POST", "/proxies", body)[1]["listen"])
    for kind, attributes in HARMLESS[1:2] + HARMLESS[3:7]:
        toxic = {"name": "t", "type": kind, "attributes": attributes}
        assert server.ask("POST", "/proxies/odd/toxics", toxic)[0] == 200
        assert echoed(port, b"x" * 3000)[0] == b"x" * 3000, (kind, attributes)
        server.ask("DELETE", "/proxies/odd/toxics/t")


def test_an_address_that_others_reach_needs_a_token(tmp_path):
    """Each request has it; the command takes it from a file."""
    token = "0123456789abcdef"
    (tmp_path / "token").write_text(token)
    with controlled_server(tmp_path, "--control-token-file", "token") as server:
        assert server.ask("GET", "/proxies")[0] == 401
        assert server.ask("GET", "/proxies", Authorization=f"Bearer {token}")[0] == 200
        arguments = ("faults", "list", "--host", server.url, "--token-file")
        assert main([*arguments, str(tmp_path / "token")]) == 0
    settings = ControlSettings(InternetAddress("0.0.0.0", 0))
    with pytest.raises(ConfigurationError, match="it needs a token: give --control-token-file"):
        open_control(settings, {})
    open_control(settings, {"TOXIPROXY_AUTH_TOKEN": token}).close()


# netsrv faults


def faults(server, capfd, line, status=0):
    """Run a command; return its output, or the error if *status* is not 0."""
    words = line.split()
    assert main(["faults", *words[:1], "--host", server.url, *words[1:]]) == status, line
    output, errors = capfd.readouterr()
    return errors if status else output


def test_the_verbs_and_letters_of_toxiproxy_cli(server, capfd):
    """What it prints are toxiproxy-cli's lines, with tabs where standard output is no terminal."""

    def run(line, status=0):
        return faults(server, capfd, line, status)

    port, echo = free_port(), f"echo\t{server.upstream}\techo\tenabled\t0\n"
    web = f"web\t127.0.0.1:{port}\t{server.upstream}"
    rest = f"echo-udp\t127.0.0.1:{server.udp}\techo\tenabled\t0\n"
    assert run("list") == echo + rest
    created = run(f"create -l 127.0.0.1:{port} -u {server.upstream} web")
    assert created == f"Created new proxy web on 127.0.0.1:{port}\n"
    again = run(f"create -l 127.0.0.1:{port} -u {server.upstream} web", 1)
    assert again == "netsrv: create web: proxy already exists\n"
    added = "Added downstream latency toxic 'latency_downstream' on proxy 'web'\n"
    assert run("add -t latency -a latency=1 -a jitter=1 --first 3 web") == added
    assert run("add -t bandwidth -n bw -tox 0.5 -a rate=10 -u web").startswith("Added upstream")
    assert run("add -t nope web", 1) == "netsrv: add web: invalid toxic type\n"
    assert run("list") == f"{echo}{rest}{web}\tenabled\t2\n"
    assert run("inspect web") == (
        "bw\ttype=bandwidth\tstream=upstream\ttoxicity=0.50\t"
        "attributes=[ rate=10 shared=False ]\thits=0\n"
        "latency_downstream\ttype=latency\tstream=downstream\ttoxicity=1.00\t"
        "attributes=[ distribution=uniform jitter=1 latency=1 ]\thits=0\n"
    )
    assert run("update -n bw -a rate=20 -tox 0.25 web") == "Updated toxic 'bw' on proxy 'web'\n"
    toxic = json.loads(run("inspect --json web"))["toxics"][0]
    assert (toxic["attributes"]["rate"], toxic["toxicity"]) == (20, 0.25)
    assert run("update -n no web", 1) == "netsrv: update web: toxic not found\n"
    assert run("remove -n bw web") == "Removed toxic 'bw' on proxy 'web'\n"
    words = ["faults", "toxic", "delete", "--host", server.url, "-n", "latency_downstream", "web"]
    assert (main(words), capfd.readouterr().out[:13]) == (0, "Removed toxic")
    assert run("toggle web") == "Proxy web is now disabled\n"
    assert run("tog web") == "Proxy web is now enabled\n"
    assert run("reset") == "Enabled all proxies, and removed all faults\n"
    assert run("delete web") == "Deleted proxy web\n"
    assert run("inspect web", 1) == "netsrv: inspect web: proxy not found\n"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("add web", "-t TYPE is missing"),
        ("add -t latency -u -d web", "only one of --upstream and --downstream"),
        ("add -t latency -tox 2 web", "--toxicity 2: a number from 0 to 1"),
        ("add -t latency -a latency web", "-a latency: write -a KEY=VALUE"),
        ("update web", "-n NAME is missing"),
        ("create web", "-l ADDRESS is missing"),
        ("inspect", "the name of a proxy is missing, as in netsrv faults inspect web"),
    ],
)
def test_a_wrong_command_line_is_one_line(server, capfd, line, text):
    """Nothing is sent."""
    assert faults(server, capfd, line, 64) == f"netsrv: {text}\n"


def test_a_server_that_is_not_there_is_one_line(capfd, monkeypatch):
    """Where the variable TOXIPROXY_URL says that it is."""
    port = free_port()
    monkeypatch.setenv("TOXIPROXY_URL", f"http://127.0.0.1:{port}")
    assert main(["faults", "list"]) == 69
    assert capfd.readouterr().err == f"netsrv: 127.0.0.1:{port}: Connection refused\n"


# toxiproxy's clients, as they are

TOXICS = {
    "latency": {"latency": 1, "jitter": 0},
    "bandwidth": {"rate": 1000},
    "slow_close": {"delay": 1},
    "timeout": {"timeout": 1},
    "reset_peer": {"timeout": 1},
    "slicer": {"average_size": 64, "size_variation": 32, "delay": 1},
    "limit_data": {"bytes": 100},
}


def test_toxiproxy_python(server):
    """Each of its verbs, and each toxic, does what it says."""
    pytest.importorskip("toxiproxy", reason="toxiproxy-python is not installed")
    from toxiproxy.api import APIConsumer
    from toxiproxy.exceptions import InvalidToxic, ProxyExists
    from toxiproxy.server import Toxiproxy

    client = Toxiproxy()
    client.update_api_consumer("127.0.0.1", server.api_port)
    try:
        assert client.running()
        assert b"version" in client.version()
        proxy = client.create(name="py", upstream=server.upstream)
        with pytest.raises(ProxyExists):
            client.create(name="py", upstream=server.upstream)
        port = port_of(proxy.listen)
        assert echoed(port)[0] == b"hello"
        with proxy.down(), pytest.raises(ConnectionRefusedError):
            echoed(port)
        assert echoed(port)[0] == b"hello"
        for name, attributes in TOXICS.items():
            proxy.add_toxic(type=name, attributes=attributes)
            toxic = proxy.get_toxic(f"{name}_downstream")
            assert attributes.items() <= toxic.attributes.items()
        assert len(proxy.toxics()) == len(TOXICS)
        with pytest.raises(InvalidToxic):
            proxy.add_toxic(type="nope")
        proxy.destroy_toxic("latency_downstream")
        assert proxy.get_toxic("latency_downstream") is None
        assert client.reset()
        assert proxy.toxics() == {}
        assert client.get_proxy("py").enabled
        assert [one.name for one in client.populate([{"name": "two", "upstream": "127.0.0.1:1"}])]
        client.get_proxy("two").destroy()
        proxy.destroy()
        assert set(client.proxies()) == {"echo", "echo-udp"}
    finally:
        APIConsumer.port = 8474


def test_chaostoolkit(server):
    """Its actions and probes for proxies and toxics."""
    pytest.importorskip("chaostoxi", reason="chaostoolkit-toxiproxy is not installed")
    from chaostoxi.proxy import actions as proxies
    from chaostoxi.proxy.probes import get_proxy_attribute, proxy_exist
    from chaostoxi.toxic import actions as toxics

    settings = {"toxiproxy_url": server.url, "toxiproxy_port": server.api_port}
    settings["toxiproxy_host"] = "127.0.0.1"

    def names():
        return [toxic["name"] for toxic in server.ask("GET", "/proxies/chaos/toxics")[1]]

    assert proxies.create_proxy("chaos", "127.0.0.1", server.tcp, "127.0.0.1", 0, True, settings)
    assert proxy_exist("chaos", settings)
    port = int(settings["chaos_PORT"])
    assert echoed(port)[0] == b"hello"
    assert proxies.disable_proxy("chaos", settings)
    assert get_proxy_attribute("chaos", "enabled", settings) is False
    assert proxies.enable_proxy("chaos", settings)
    assert toxics.create_latency_toxic("chaos", "slow", 1, configuration=settings)
    assert toxics.create_bandwith_degradation_toxic("chaos", "thin", 100, settings)
    assert toxics.create_slow_connection_close_toxic("chaos", "late", 1, settings)
    assert toxics.create_timeout_toxic("chaos", "never", 1, settings)
    assert toxics.create_slicer_toxic("chaos", "sliced", 64, 32, 1, settings)
    assert toxics.create_limiter_toxic("chaos", "short", 100, settings)
    assert names() == ["slow", "thin", "late", "never", "sliced", "short"]
    toxics.delete_toxic("chaos", "never", settings)
    assert "never" not in names()
    proxies.reset(settings)
    assert names() == []
    proxies.modify_proxy("chaos", upstream_address="127.0.0.1:1", configuration=settings)
    assert get_proxy_attribute("chaos", "upstream", settings) == "127.0.0.1:1"
    proxies.delete_proxy("chaos", settings)
    assert not proxy_exist("chaos", settings)


def test_toxiproxy_node_client(server, tmp_path):
    """Each of its methods; the script throws at the first that fails."""
    node = shutil.which("node")
    if node is None or not NODE_CLIENT.exists():
        pytest.skip("node or toxiproxy-node-client is not installed: .ci/check.py does that")
    script = Path(__file__).with_name("toxiproxy_client.js").read_text()
    done = subprocess.run(
        [node, "-e", script, str(NODE_CLIENT), server.url, server.upstream, json.dumps(TOXICS)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
