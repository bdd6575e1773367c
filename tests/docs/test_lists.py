"""The documents' lists are complete: options, services, statuses, rooms, layers, faults."""

import re
from configparser import ConfigParser

import attrs
import pytest

from docs.faults_tables import TABLES, faults_table
from docs.metrics_table import metrics_list
from docs.settings_tables import keys_table, options_list
from netsrv.cli.options import SERVE_OPTIONS, TOP_OPTIONS
from netsrv.cli.printing import ExitStatus
from netsrv.config.document import FILE_NAMES
from netsrv.config.fault_reading import SELECTORS
from netsrv.config.model import LISTENER_SETTINGS, SERVER_TABLES, TABLE_SETTINGS
from netsrv.faults.kinds import DATAGRAM_KINDS, STREAM_KINDS
from netsrv.interfaces import IService
from netsrv.status.families import (
    LISTENER_FAMILIES,
    PROCESS_FAMILIES,
    SERVER_FAMILIES,
    WORKER_FAMILIES,
)
from tests.checkout import TOP, path_of
from tests.docs.faults import rows, tests_by_fault
from twisted.plugins import netsrv_services

pytestmark = pytest.mark.version_independent

REFERENCE = path_of("reference.rst").read_text()
ARCHITECTURE = path_of("architecture.rst").read_text()
PACKAGE = TOP / "netsrv"

FAULTS = range(1, 150)
"""The numbers of the faults of the existing features."""


def options() -> list[str]:
    """Return every option of the command, long and short, as it is written."""
    known = (*SERVE_OPTIONS, *TOP_OPTIONS)
    flags = [flag for option in known for flag in (*option.flags, option.negation) if flag]
    return list(dict.fromkeys(flags))


def rooms() -> list[str]:
    """Return every directory of netsrv, with a slash, and every module beside it."""
    found = [path for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__")]
    return [
        f"{each.name}/" if each.is_dir() else each.name for each in found if each.suffix != ".typed"
    ]


def layers() -> str:
    """Return the layers as setup.cfg has them."""
    settings = ConfigParser()
    settings.read(TOP / "setup.cfg")
    return settings["importlinter:contract:layers"]["layers"].strip()


@pytest.mark.parametrize("option", options())
def test_the_reference_has_every_option(option):
    """Each option has an entry with its meaning, and so a link and a line of the index."""
    section = REFERENCE.split("\nOptions\n")[1].split("\nLimits\n")[0]
    assert "\n.. settings:: options\n" in section
    entries = "\n".join([section, *options_list()])
    assert re.search(rf"^\.\. option:: (.*, )?{option}([ ,]|$)", entries, re.M)


def keys() -> list[str]:
    """Return every key of a configuration file; a table's is the header with which it begins."""
    names = dict.fromkeys(["listener", *FILE_NAMES])
    tables = {"listener": "[[listener]]"}
    tables.update(
        (each, f"[listener.{each}]")
        for each in ("settings", "limits", "access", "proxy_protocol", "tls")
    )
    names_of_tables = [f"[{table}]" for table in SERVER_TABLES]
    names = [LISTENER_SETTINGS[name].name if name in LISTENER_SETTINGS else name for name in names]
    below_top = [setting.name for setting in TABLE_SETTINGS.values()]
    return [*(tables.get(name, name) for name in names), *names_of_tables, *below_top]


def test_the_reference_has_exactly_the_keys_of_a_file():
    """The table of keys has those of the settings, and no others."""
    section = REFERENCE.split("\nAll keys:\n")[1].split("\nThe file is at most")[0]
    assert "\n.. settings:: keys\n" in section
    table = "\n".join(keys_table())
    shown = [row.split("``")[1] for row in table.split("\n   * - ")[2:]]
    assert sorted(shown) == sorted(keys())


def test_the_reference_has_exactly_the_settings_of_our_services():
    """The table of settings has those of all services together."""
    table = REFERENCE.split("\nSettings of the services\n")[1].split("\nA service of your own")[0]
    shown = [row.split("``")[1] for row in table.split("\n   * - ")[2:]]
    services = [each for each in vars(netsrv_services).values() if IService.providedBy(each)]
    classes = [each.settings for each in services if each.settings is not None]
    assert sorted(shown) == sorted(each.name for kind in classes for each in attrs.fields(kind))


def test_the_reference_has_exactly_the_services_that_come_with_netsrv():
    """The table of services names those of our plugin module, and no others."""
    table = REFERENCE.split("\nServices\n")[1].split("\nWhen a connection ends\n")[0]
    names = [row.split("``")[1] for row in table.split("\n   * - ")[2:]]
    ours = [each.name for each in vars(netsrv_services).values() if IService.providedBy(each)]
    assert sorted(names) == sorted(ours)


def test_the_reference_has_exactly_the_exit_statuses_of_serve():
    """The table of exit statuses has those of the command, in their order."""
    table = REFERENCE.split("Exit statuses of ``netsrv serve``")[1].split("With twistd")[0]
    numbers = [row.partition("\n")[0] for row in table.split("\n   * - ")[2:]]
    assert numbers == [str(int(status)) for status in sorted(ExitStatus)]


@pytest.mark.parametrize("room", rooms())
def test_the_architecture_has_every_room(room):
    """The tree in the document lists each room and each module beside them."""
    tree = ARCHITECTURE.split("\nThe rooms\n")[1].split("\nThe layers\n")[0]
    assert f" {room} " in tree


def test_the_architecture_has_the_layers_of_the_contract():
    """The layers in the document are word for word those that import-linter checks."""
    shown = "\n".join(line.strip() for line in ARCHITECTURE.splitlines())
    assert f"\n{layers()}\n" in shown


def test_the_reference_has_every_metric():
    """Each with its type, labels and meaning."""
    assert "\n.. settings:: metrics\n" in REFERENCE
    table = "\n".join(metrics_list())
    for family in (*LISTENER_FAMILIES, *SERVER_FAMILIES, *WORKER_FAMILIES, *PROCESS_FAMILIES):
        assert f"``{family.sample_name}``" in table
        assert f"     - {family.help}\n" in table


def test_the_reference_has_every_fault_on_purpose():
    """Each type with its unit, and each attribute with its meaning; and each selector."""
    page = path_of("faults-on-purpose.rst").read_text()
    shown = {}
    for name, (kinds, _) in TABLES.items():
        assert f"\n.. settings:: faults-{name}\n" in page
        rows_of_types = "\n".join(faults_table(name)).split("\n   * - ``")[1:]
        for row in rows_of_types:
            kind = row.split("``")[0]
            shown.setdefault(id(kinds), set()).add(kind)
            attributes = attrs.fields(kinds[kind].attributes)
            assert re.findall(r"\n       - ``(\w+)``, \w+", row) == [one.name for one in attributes]
    for kinds in (STREAM_KINDS, DATAGRAM_KINDS):
        assert shown[id(kinds)] == set(kinds)
    for selector in SELECTORS:
        assert f"``{selector}``" in page


def test_the_how_to_has_every_method_of_faults():
    """Each type of faults is a method."""
    methods = path_of("test-retries.rst").read_text().split("\nMethods\n")[1]
    for kind in (*STREAM_KINDS, *DATAGRAM_KINDS):
        assert f"``{kind}``" in methods


def test_every_fault_has_its_row():
    """No fault that concerns what is built is missing from the tables."""
    assert {f"F{number}" for number in FAULTS} - rows().keys() == set()


@pytest.mark.parametrize("number", rows())
def test_every_fault_has_a_test(number):
    """A row has at least one test that bears its number, or gives the reason why not."""
    assert tests_by_fault().get(number) or "Not tested: " in rows()[number]


def test_every_number_in_the_name_of_a_test_has_its_row():
    """A test bears no number that the tables do not explain."""
    assert tests_by_fault().keys() - rows().keys() == set()
