"""The configuration file: TOML, turned into a configuration."""

import os
import re
import tomllib
from typing import Any

from attrs import evolve

from netsrv.config.document import DocumentReader
from netsrv.config.errors import ErrorCollector, file_source
from netsrv.config.model import Configuration
from netsrv.files import read_text_file
from netsrv.registry import Registry

MAX_FILE_SIZE = 2**20
"""Bytes."""

MAX_KEY_PARTS = 8
"""Parts of a dotted key, whose parser takes the square of their number."""

_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\[^\n])*+"|'[^'\n]*+')"""
_DOT = r"[ \t]*+\.[ \t]*+"
_TOKEN = re.compile(
    rf"""
      \"{{3}} (?: [^"\\] | \\. | "(?!"") )*+ "{{3,5}}
    | '{{3}} (?: [^'] | '(?!'') )*+ '{{3,5}}
    | \#[^\n]*+
    | (?P<deep> {_PART} (?: {_DOT} {_PART} ){{{MAX_KEY_PARTS}}} )
    | {_PART} (?: {_DOT} {_PART} )*+
    | [^"'\#A-Za-z0-9_-]++
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
"""Strings of several lines, comments, keys or values, and what stands between them."""


def read_file(path: str, name: str | None = None) -> str:
    """Return the text of a file, which errors call *name*.  Raises `ConfigurationError`."""
    errors = ErrorCollector(file_source(path if name is None else name))
    text = ""
    with errors.at():
        text = read_text_file(path, MAX_FILE_SIZE)
    errors.raise_all()
    return text


def read_configuration(
    path: str, registry: Registry, name: str | None = None, text: str | None = None
) -> Configuration:
    """Read the file *path*, which errors call *name*, with the services of *registry*.

    Relative paths in it begin in its folder; that of a symbolic link is the link's.  *text* is
    that of the file if it was read before.  Raises `ConfigurationError` with a line for each error.
    """
    name = path if name is None else name
    document = parse_toml(read_file(path, name) if text is None else text, name)
    absolute = os.path.abspath(path)
    source = file_source(name, folder=os.path.dirname(absolute))
    return evolve(DocumentReader(source, registry).configuration(document), file=absolute)


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parse TOML, which errors call *name*.  Raises `ConfigurationError`."""
    errors = ErrorCollector(file_source(name))
    document: dict[str, Any] = {}
    with errors.at():
        document = _load(text)
    errors.raise_all()
    return document


def _load(text: str) -> dict[str, Any]:
    for token in _TOKEN.finditer(text):
        if token["deep"]:
            line = text.count("\n", 0, token.start()) + 1
            raise ValueError(f"a key has at most {MAX_KEY_PARTS} parts (at line {line})")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("too many brackets within each other") from None
    except ValueError:
        raise ValueError("a number has too many digits") from None
