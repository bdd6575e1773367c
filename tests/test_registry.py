"""Finding services among plugins and entry points."""

import sys
import textwrap
import zipfile
from importlib import metadata
from unittest.mock import ANY

import pytest

from netsrv.registry import find_faults, find_services

GOOD = """
    from twisted.internet.protocol import Factory, Protocol
    from zope.interface import implementer
    from netsrv.interfaces import IStreamService

    @implementer(IStreamService)
    class Service:
        name, description, settings = "{name}", "a test", None

        def stream(self, settings):
            return Factory.forProtocol(Protocol)

    service = Service()
"""


MOODY = """
    from zope.interface import implementer
    from netsrv.interfaces import IStreamService

    @implementer(IStreamService)
    class Service:
        description, settings = "a test", None

        @property
        def name(self):
            raise {surprise}

    service = Service()
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Make an empty package for plugins, and return a function that adds a module to it."""
    package = tmp_path / "netsrv_test_plugins"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    made = __import__("netsrv_test_plugins")

    def add(name, code):
        (package / f"{name}.py").write_text(textwrap.dedent(code))
        return made

    yield add
    for name in [each for each in sys.modules if each.startswith("netsrv_test_plugins")]:
        del sys.modules[name]


def test_our_services_are_found_like_anyones():
    """The nine services are among Twisted's plugins, with the transports of the interface."""
    registry = find_services()
    found = {name: registry.transports(name) for name in registry.services}
    expected = dict.fromkeys("chargen daytime discard echo info qotd time".split(), "tcp udp")
    assert {**expected, "accept": "tcp", "agent": "tcp"}.items() <= found.items()
    assert registry.problems == []


def test_a_service_is_found_by_its_name(plugins):
    """What a module of the package provides can be asked for."""
    registry = find_services(plugins("one", GOOD.format(name="hello")))
    assert registry.stream("hello").description == "a test"
    assert registry.problems == []


def test_an_unknown_service_is_an_error_that_lists_the_known_ones(plugins):
    """An unknown name, or the wrong transport, is a LookupError with the known names."""
    registry = find_services(plugins("one", GOOD.format(name="hello")))
    with pytest.raises(LookupError, match=r"there is no service 'helo'; there are hello"):
        registry.stream("helo")
    with pytest.raises(LookupError, match=r"'hello' is not served on UDP; there are none"):
        registry.datagram("hello")


@pytest.mark.parametrize("expected_failures", [["ZeroDivisionError"]])
def test_a_module_that_does_not_import_is_named_and_the_rest_works(plugins, expected_failures):
    """F109: one line names the file and the exception."""
    plugins("bad", "1 / 0")
    registry = find_services(plugins("one", GOOD.format(name="hello")))
    assert list(registry.services) == ["hello"]
    [problem] = registry.problems
    assert "bad.py cannot be imported: ZeroDivisionError: division by zero" in problem


SURPRISES = [
    "KeyboardInterrupt",
    "GeneratorExit",
    "SystemExit(5)",
    "MemoryError",
    "__import__('asyncio').CancelledError",
    "BaseException('one\\ntwo')",
    "type('Mute', (BaseException,), {'__str__': lambda self: 1 / 0})",
    "Exception('x' * 100_000)",
]
"""What a plugin may raise, as code."""


@pytest.mark.parametrize("expected_failures", [[ANY]])
@pytest.mark.parametrize("surprise", SURPRISES)
def test_f134_whatever_a_module_raises_it_is_named_and_the_rest_works(plugins, surprise):
    """One short line names the file and the exception, be it no Exception at all."""
    plugins("bad", f"raise {surprise}")
    registry = find_services(plugins("one", GOOD.format(name="hello")))
    assert list(registry.services) == ["hello"]
    [problem] = registry.problems
    assert "bad.py cannot be imported: " in problem
    assert problem.isprintable()
    assert len(problem) < 1000


@pytest.mark.parametrize("surprise", SURPRISES)
def test_f134_whatever_a_service_raises_it_is_named_and_the_rest_works(plugins, surprise):
    """Attributes of a service may raise too, when it is loaded."""
    plugins("bad", MOODY.format(surprise=surprise))
    registry = find_services(plugins("one", GOOD.format(name="hello")))
    assert list(registry.services) == ["hello"]
    [problem] = registry.problems
    assert "netsrv_test_plugins.bad.service cannot be used: " in problem
    assert problem.isprintable()
    assert len(problem) < 1000


def test_two_services_of_one_name_are_named_and_the_first_works(plugins):
    """F109: the module that comes first in the alphabet is used, and both are named."""
    plugins("a", GOOD.format(name="hello"))
    registry = find_services(plugins("b", GOOD.format(name="hello")))
    assert type(registry.stream("hello")).__module__ == "netsrv_test_plugins.a"
    [problem] = registry.problems
    assert problem == (
        "two services are named 'hello': the one of netsrv_test_plugins.a is used, "
        "the one of netsrv_test_plugins.b is not"
    )


def test_a_service_without_a_name_is_named_by_its_place(plugins):
    """An object that promises more than it has does not stop the others."""
    code = GOOD.format(name="hello").replace("name, description, settings =", "_ =")
    registry = find_services(plugins("nameless", code))
    assert registry.services == {}
    assert (
        "netsrv_test_plugins.nameless.service cannot be used: AttributeError"
        in (registry.problems[0])
    )


@pytest.mark.parametrize("expected_failures", [["SyntaxError", "SyntaxError"]])
def test_a_service_that_is_missing_has_its_reasons_at_every_look(plugins, expected_failures):
    """The error names the modules that do not import, and those that are empty, each time."""
    plugins("bad", "def broken(:")
    plugins("hello_service", "class Hello: pass")
    package = plugins("one", GOOD.format(name="hello"))
    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            find_services(package).stream("helo")
        text = str(caught.value)
        assert text.startswith("there is no service 'helo'; there are hello; did you mean hello?")
        assert "bad.py cannot be imported: SyntaxError: invalid syntax (bad.py, line 1)" in text
        assert text.endswith("hello_service.py has no service in it")


def test_a_module_without_plugins_is_no_problem(plugins):
    """Only the error about a missing service names it: a module may be empty on purpose."""
    plugins("empty", "")
    registry = find_services(plugins("one", GOOD.format(name="hello")))
    assert registry.problems == []
    [line] = registry.empty
    assert line.endswith("empty.py has no service in it")


def test_twisteds_own_modules_are_not_named():
    """Those of the package of Twisted itself are no reason for a missing service."""
    assert find_services().empty == []


@pytest.fixture
def packages(tmp_path, monkeypatch, plugins):
    """Return a function that installs a package of one module with entry points.

    They are lines of the group; the function returns an empty package for plugins.
    """
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def install(name, code, *lines, group="netsrv.services"):
        installed = folder / f"{name}-1.0.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (installed / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return plugins("nothing", "")

    return install


@pytest.mark.parametrize("attribute", ["service", "Service"])
def test_a_service_of_a_package_is_found_by_its_entry_point(packages, attribute):
    """The entry point names the service or its class."""
    package = packages("acme", GOOD.format(name="hello"), f"hello = acme:{attribute}")
    registry = find_services(package)
    assert registry.stream("hello").description == "a test"
    assert registry.problems == []


def test_a_package_in_an_archive_is_found(packages, tmp_path, monkeypatch):
    """An archive on sys.path is searched as a folder is."""
    package = packages("acme", GOOD.format(name="hello"), "hello = acme:Service")
    folder = tmp_path / "site-packages"
    archive = tmp_path / "acme.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in folder.rglob("*"):
            packed.write(path, path.relative_to(folder))
    sys.path.remove(str(folder))
    monkeypatch.syspath_prepend(archive)
    assert find_services(package).stream("hello").description == "a test"


def test_without_such_a_package_the_metadata_is_not_read(packages, monkeypatch):
    """A start costs nothing for the entry points of other groups."""
    package = packages("acme", GOOD.format(name="hello"), "hello = acme:service", group="other")
    monkeypatch.setattr(metadata, "entry_points", None)
    registry = find_services(package)
    assert registry.services == {}
    assert registry.problems == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("missing:service", "ModuleNotFoundError: No module named 'missing'"),
        ("acme:missing", "AttributeError: "),
        ("acme:implementer", "TypeError: "),
        ("acme", "TypeError: it provides neither IStreamService nor IDatagramService"),
        ("no value", ""),
    ],
)
def test_a_bad_entry_point_is_named_and_the_rest_works(packages, value, problem):
    """One line names the object, its package and the exception."""
    package = packages("acme", GOOD.format(name="hello"), f"bad = {value}", "z = acme:service")
    registry = find_services(package)
    assert list(registry.services) == ["hello"]
    [line] = registry.problems
    assert line.startswith(f"service {value} of the package acme cannot be used: {problem}")
    assert line.isprintable()


@pytest.mark.parametrize("surprise", SURPRISES)
def test_f134_whatever_a_package_raises_it_is_named_and_the_rest_works(packages, surprise):
    """The package's module may raise anything when it is imported."""
    packages("mood", f"raise {surprise}", "a = mood:service")
    registry = find_services(packages("acme", GOOD.format(name="hello"), "b = acme:service"))
    assert list(registry.services) == ["hello"]
    [line] = registry.problems
    assert line.startswith("service mood:service of the package mood cannot be used: ")
    assert line.isprintable()
    assert len(line) < 1000


def test_entry_points_that_cannot_be_read_are_a_problem(packages, tmp_path):
    """A damaged package is one line, and plugins work."""
    package = packages("acme", GOOD.format(name="hello"), "hello = acme:service")
    [path] = tmp_path.glob("site-packages/*/entry_points.txt")
    path.write_bytes(path.read_bytes() + b"\xff")
    registry = find_services(package)
    assert registry.services == {}
    [line] = registry.problems
    assert line.startswith("the entry points of packages cannot be read: UnicodeDecodeError")


def test_a_package_without_metadata_has_services_too(packages, tmp_path):
    """A package that has lost its file METADATA takes no other's services away."""
    package = packages("acme", GOOD.format(name="hello"), "a = acme:service", "b = acme:missing")
    [path] = tmp_path.glob("site-packages/*/METADATA")
    path.unlink()
    registry = find_services(package)
    assert list(registry.services) == ["hello"]
    [line] = registry.problems
    assert line.startswith("service acme:missing of the package without a name cannot be used: ")


def test_a_plugin_comes_before_an_entry_point_of_its_name(packages, plugins):
    """The plugin is used, and both are named."""
    packages("acme", GOOD.format(name="hello"), "hello = acme:service")
    registry = find_services(plugins("one", GOOD.format(name="hello")))
    assert type(registry.stream("hello")).__module__ == "netsrv_test_plugins.one"
    assert registry.problems == [
        "two services are named 'hello': the one of netsrv_test_plugins.one is used, "
        "the one of acme is not"
    ]


FAULT = """
    from zope.interface import implementer
    from netsrv.faults.stages import Stage
    from netsrv.interfaces import IDatagramFault, IStreamFault

    @implementer({interface})
    class Type:
        name, description, attributes, stage = {values}

    fault = Type()
"""


def fault(interface="IStreamFault", values="'shout', 'a test', None, Stage"):
    """Return the source of a module with a type of faults."""
    return FAULT.format(interface=interface, values=values)


def test_faults_are_found_by_their_names(plugins):
    """One of connections and one of datagrams may share a name."""
    plugins("one", fault())
    types = find_faults(plugins("two", fault("IDatagramFault")))
    assert types.problems == []
    assert types.streams["shout"] is not types.datagrams["shout"]


def test_of_two_faults_with_one_name_the_first_is_used(plugins):
    """The other is named."""
    plugins("one", fault())
    types = find_faults(plugins("two", fault()))
    assert types.problems == [
        "two faults are named 'shout': the one of netsrv_test_plugins.two is not used"
    ]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ("'shout', 'a test', None, None", "TypeError: its stage is no class"),
        ("'shout', 'a test', dict, Stage", "TypeError: its attributes are no attrs class"),
        ("'two words', 'a test', None, Stage", "ValueError: 'two words' is not a name like"),
        ("3, 'a test', None, Stage", "TypeError: its name is not a string"),
    ],
)
def test_a_fault_that_cannot_be_used_is_named(plugins, values, problem):
    """The others work."""
    plugins("one", fault())
    types = find_faults(plugins("two", fault(values=values)))
    assert list(types.streams) == ["shout"]
    [line] = types.problems
    assert line.startswith(f"fault netsrv_test_plugins.two.fault cannot be used: {problem}")


def test_services_and_faults_do_not_mix(plugins):
    """Each is found by its own interface."""
    plugins("one", fault())
    package = plugins("two", GOOD.format(name="hello"))
    assert "shout" not in find_services(package).services
    assert "hello" not in find_faults(package).streams
