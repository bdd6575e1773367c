"""Files that would make much work: refused early, or read at a cost in proportion to their size."""

import tomllib

import attrs
import pytest
from zope.interface import implementer

from netsrv import settings
from netsrv.config import ConfigurationError
from netsrv.config import document as document_module
from netsrv.config.toml import MAX_FILE_SIZE, MAX_KEY_PARTS, parse_toml, read_configuration
from netsrv.interfaces import IStreamService
from netsrv.registry import Registry, find_services
from netsrv.settings import MAX_ERRORS

DEEP = ".".join(["a"] * (MAX_KEY_PARTS + 1))
FLAT = ".".join(["a"] * MAX_KEY_PARTS)


def errors_of(text, folder, registry=None):
    """Return the lines of the error about a file."""
    (folder / "f").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(str(folder / "f"), registry or find_services(), "f")
    return caught.value.lines


@pytest.mark.parametrize(
    "text",
    [
        f"{DEEP} = 1",
        f"[{DEEP}]",
        f"[[{DEEP}]]",
        f"[listener]\nx = {{ {DEEP} = 1 }}",
        " . ".join(["'a b'", '"c\\"d"', "e"] * 3) + " = 1",
        f'x = """\n"""" # comment\n{DEEP} = 1',
        f"x = '''a''''' \n{DEEP} = 1",
        f"x = ''\ny = \"\"\n{DEEP} = 1",
        "a" + ".a" * 200_000 + " = 1",
        "a" + " . a" * 200_000,
        '"' + '".a."' * 100_000,
    ],
)
def test_f132_a_key_of_many_parts_is_refused_before_the_file_is_parsed(text, monkeypatch):
    """The parser takes the square of the number of parts, and never gets to see the file."""
    monkeypatch.setattr(tomllib, "loads", pytest.fail)
    with pytest.raises(ConfigurationError, match=r"^f: a key has at most 8 parts \(at line \d+\)$"):
        parse_toml(text, "f")


@pytest.mark.parametrize(
    "text",
    [
        f"{FLAT} = 1",
        f"[{FLAT}]\n{FLAT} = 1",
        f"x = '{DEEP}' # {DEEP}",
        f'x = "\\"{DEEP}\\"{DEEP}"',
        f'x = """\n{DEEP} = 1\n\\"""{DEEP}"""',
        f'x = """a"""" # "\ny = "{DEEP}"',
        f"x = '''\n{DEEP} = 1'''",
        f"x = [1.5, 2.5, '{DEEP}', 1979-05-27T07:32:00.5Z]",
        "x = [" + ", ".join(f"'{number}.{number}'" for number in range(40_000)) + "]",
        "#" + ".a" * 400_000,
    ],
)
def test_f132_what_only_looks_like_a_key_of_many_parts_is_read(text):
    """Strings and comments may have any number of dots; a list may fill one long line."""
    assert parse_toml(text, "f") == tomllib.loads(text)


def test_f132_a_hundred_errors_are_listed_and_the_others_counted(tmp_path, monkeypatch):
    """No further message is even composed, for each costs a look for similar names."""
    composed = []

    def count(*arguments):
        composed.append(arguments)
        return settings.unknown_key(*arguments)

    monkeypatch.setattr(document_module, "unknown_key", count)
    text = "\n".join(f"k{number} = 1" for number in range(MAX_FILE_SIZE // 12))
    lines = errors_of(text, tmp_path)
    assert len(lines) == MAX_ERRORS + 1
    assert lines[-1] == f"f: and {MAX_FILE_SIZE // 12 - MAX_ERRORS} more errors"
    assert len(composed) == MAX_ERRORS


def test_f132_a_listener_with_an_error_that_is_only_counted_is_not_made(tmp_path):
    """An error counts beyond the hundredth, too: listeners without a service, addresses, ..."""
    text = "[[listener]]\ntcp = 'x'\nbacklog = 'y'\n" * MAX_ERRORS
    lines = errors_of(text, tmp_path)
    assert lines[-1] == f"f: and {MAX_ERRORS} more errors"
    text = "[[listener]]\ntcp = '127.0.0.1:7'\n" * 1000
    assert errors_of(text, tmp_path)[-1] == f"f: and {999 - MAX_ERRORS} more errors"


@attrs.frozen
class Word:
    """Settings of a third party's service."""

    word: str = ""


@implementer(IStreamService)
class Greet:
    """A third party's service."""

    name, description, settings = "greet", "greet", Word


def test_f132_errors_within_the_settings_of_a_service_are_counted_too(tmp_path, monkeypatch):
    """Their unknown keys are compared with the known ones a hundred times."""
    from netsrv.config import structuring

    composed = []
    monkeypatch.setattr(structuring, "unknown_key", lambda *names: composed.append(names) or "no")
    keys = "\n".join(f"k{number} = 1" for number in range(20_000))
    text = f"[[listener]]\nservice = 'greet'\ntcp = 7\n[listener.settings]\n{keys}"
    lines = errors_of(text, tmp_path, Registry({"greet": Greet()}))
    assert lines[-1] == f"f: and {20_000 - MAX_ERRORS} more errors"
    assert len(composed) == MAX_ERRORS
