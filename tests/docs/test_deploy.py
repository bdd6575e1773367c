"""The files of deploy/ and the commands that no test can run: what can be checked of them."""

import shlex
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from netsrv.server.drain import ABORT_TIMEOUT
from tests.checkout import TOP, path_of
from tests.docs.blocks import read_blocks
from tests.process.needs import tool
from tests.process.running import BIN

pytestmark = pytest.mark.version_independent


def commands(name: str) -> list[list[str]]:
    """Return the commands of a document, each split into words."""
    blocks = read_blocks(path_of(name).read_text())
    lines = [
        line for block in blocks if block.language == "console" for line in block.text.split("\n")
    ]
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]


def run(*command: str) -> str:
    """Run a command; return its output.  A failure fails the test."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


UNITS = ("netsrv.service", "netsrv.socket", "daytime@.service", "daytime.socket")


DROP_IN = "netsrv.service.d/low-ports.conf"


def copy_units(folder: Path, *names: str) -> list[str]:
    """Copy units, with this Python's folder of programs; return the paths of the copies."""
    for name in names:
        text = (TOP / "deploy" / "systemd" / name).read_text()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace("/opt/netsrv/bin/", f"{BIN}/"))
    return [str(folder / name) for name in names]


def test_systemd_accepts_the_units(tmp_path):
    """Every line is known to systemd; only the folder of the program differs here."""
    *units, _ = copy_units(tmp_path, *UNITS, DROP_IN)
    assert run(tool("systemd-analyze"), "verify", "--man=no", *units) == ""


@pytest.mark.parametrize("drop_ins", [(), (DROP_IN,)], ids=["units", "with the drop-in"])
def test_the_units_expose_little(drop_ins, tmp_path):
    """The exposure is 1.8 at most, also with the capability for ports below 1024."""
    names = [name for name in UNITS if name.endswith(".service")]
    services = copy_units(tmp_path, *names, *drop_ins)[: len(names)]
    options = "security", "--offline=yes", "--threshold=18", "--no-pager"
    assert "Overall exposure level" in run(tool("systemd-analyze"), *options, *services)


@pytest.fixture(scope="module")
def manifests():
    """Return the objects that ``kubectl apply -k`` creates, by their kinds."""
    import yaml

    text = run(tool("kubectl"), "kustomize", str(TOP / "deploy" / "kubernetes"))
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.mark.parametrize("kind", ["ConfigMap", "Service", "Deployment", "PodDisruptionBudget"])
def test_kubernetes_accepts_the_manifests(kind, manifests):
    """Each key is in the schema of its kind, with a value of its type."""
    import kubernetes_validate

    kubernetes_validate.validate(manifests[kind], kubernetes_validate.latest_version(), strict=True)


def test_the_manifests_fit_together(manifests):
    """Selectors choose the pods, ports are those of the configuration, and the times add up."""
    deployment = manifests["Deployment"]["spec"]
    labels, pod = deployment["template"]["metadata"]["labels"], deployment["template"]["spec"]
    assert deployment["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    [container], [volume] = pod["containers"], pod["volumes"]
    assert volume["configMap"]["name"] == manifests["ConfigMap"]["metadata"]["name"]
    ports = {port["name"]: (port["containerPort"], port["protocol"]) for port in container["ports"]}
    configuration = tomllib.loads(manifests["ConfigMap"]["data"]["netsrv.toml"])
    tcp, udp = configuration["listener"]
    health = int(configuration["status"]["health"].rpartition(":")[2])
    assert ports == {
        "echo-tcp": (tcp["tcp"], "TCP"),
        "echo-udp": (udp["udp"], "UDP"),
        "health": (health, "TCP"),
    }
    targets = {
        (port["targetPort"], port["protocol"]) for port in manifests["Service"]["spec"]["ports"]
    }
    assert targets == {("echo-tcp", "TCP"), ("echo-udp", "UDP")}
    times = configuration["shutdown_delay"] + configuration["shutdown_timeout"] + ABORT_TIMEOUT
    assert times < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("number", range(2))
def test_tcpdump_knows_the_filters(number):
    """Each filter of the document compiles."""
    dumps = [words for words in commands("debug-a-network.rst") if "tcpdump" in words]
    assert len(dumps) == 2
    assert run(tool("tcpdump"), "-d", "-y", "EN10MB", dumps[number][-1])


def test_the_documents_use_no_option_of_nc_that_only_some_have():
    """Every netcat understands a host and a port alone."""
    for document in (TOP / "README.rst", *(TOP / "docs").glob("*.rst")):
        for words in commands(document.name):
            for word, after in pairwise(words):
                assert word != "nc" or not after.startswith("-"), (document.name, words)
