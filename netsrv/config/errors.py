"""The errors of a configuration: their location as the user finds it, and one line for each.

The `Source` of a document determines how its errors name locations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from attrs import frozen

from netsrv.config.model import ConfigurationError
from netsrv.settings import (
    MAX_ERRORS,
    MAX_TEXT_LENGTH,
    InvalidValues,
    KeyPath,
    quote_value,
    shorten,
)
from netsrv.sockets.addresses import printable

_BARE_KEY = re.compile("[A-Za-z0-9_-]{1,60}")


@frozen
class Source:
    """The origin of a document, which determines how its errors read."""

    locate: Callable[[KeyPath], str]
    """Returns how the user finds a key path: ``netsrv.toml: listener[0].backlog``."""
    names: Collection[str] = ()
    """The names that `DocumentReader.make_document` takes."""
    noun: str = "key"
    """The user's word for a name."""
    separator: str = ": "
    """Stands between a location and a message."""
    options: bool = False
    """True if the values are arguments of options, False if they have TOML's types."""
    folder: str = ""
    """The folder in which relative paths begin; empty for the working directory."""


def file_source(
    name: str, names: Collection[str] = (), noun: str = "key", folder: str = ""
) -> Source:
    """Return the source for a file in *folder*, which errors call *name*."""

    def locate(keys: KeyPath) -> str:
        return ": ".join(filter(None, (name, show_keys(keys))))

    return Source(locate, names, noun, folder=folder)


def show_keys(keys: KeyPath) -> str:
    """Return a key path as TOML's users write it: ``listener[0].limits.lifetime``."""
    shown = ""
    for key in keys:
        if isinstance(key, int):
            shown += f"[{key}]"
        else:
            shown += f".{key if _BARE_KEY.fullmatch(key) else quote_value(key)}"
    return shown.removeprefix(".")


class ErrorCollector:
    """Collects the errors of a document as lines that name their locations."""

    def __init__(self, source: Source) -> None:
        self.count = 0
        """The number of errors, of which `MAX_ERRORS` are listed."""
        self._lines: dict[str, None] = {}
        self._source = source

    def add(self, keys: KeyPath, text: str | Callable[[], str]) -> None:
        """Add an error at a key path; a function returns its text, if it is listed."""
        self.count += 1
        if len(self._lines) >= MAX_ERRORS:
            return
        text = text if isinstance(text, str) else text()
        location = self._source.locate(keys)
        # An option's value, in quotes, and a verb follow the option itself.
        separator = ": " if text.startswith(("the ", "there ")) else self._source.separator
        line = printable(f"{location}{separator}{text}" if location else text)
        self._lines[shorten(line, MAX_TEXT_LENGTH)] = None

    def add_lines(self, lines: Iterable[str]) -> None:
        """Add errors as they are, with their locations."""
        for line in lines:
            self.count += 1
            if len(self._lines) < MAX_ERRORS:
                self._lines[shorten(printable(line), MAX_TEXT_LENGTH)] = None

    @contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        """Collect what the block raises as ValueError; it concerns the value at *keys*."""
        try:
            yield
        except InvalidValues as error:
            for below, text in error.errors:
                self.add((*keys, *below), text)
        except ValueError as error:
            self.add(keys, str(error))

    def raise_all(self) -> None:
        """Raise `ConfigurationError` if there are errors."""
        if not self._lines:
            return
        lines = list(self._lines)
        if len(lines) == MAX_ERRORS and self.count > MAX_ERRORS:
            location = self._source.locate(())
            more = f"and {self.count - MAX_ERRORS} more errors"
            lines.append(printable(f"{location}: {more}" if location else more))
        raise ConfigurationError(*lines)
