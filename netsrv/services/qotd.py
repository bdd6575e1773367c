"""qotd: a quote of the day (RFC 865)."""

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attrs import Attribute, field, frozen
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from netsrv.files import read_text_file
from netsrv.interfaces import IDatagramService, IStreamService
from netsrv.services.message import Message, MessageDatagrams, MessageFactory
from netsrv.sockets.addresses import printable

END = "\r\n"

MAX_QUOTE_LENGTH = 511 - len(END)
"""Characters of a quote: the RFC asks for fewer than 512, line end included."""

MAX_FILE_SIZE = 2**20
"""Bytes of a file of quotes."""

CHECK_INTERVAL = 1.0
"""Seconds between two checks of a file for changes."""

QUOTES = (
    "Be conservative in what you do, be liberal in what you accept from others. (RFC 793)",
    "In general, it is best to assume that the network is filled with malevolent entities "
    "that will send in packets designed to have the worst possible effect. (RFC 1122)",
    "With sufficient thrust, pigs fly just fine. However, this is not necessarily a good idea. "
    "(RFC 1925)",
    "It is always something. (RFC 1925)",
    "One size never fits all. (RFC 1925)",
)

_SEPARATOR = re.compile(r"^%\n", re.MULTILINE)
_NOT_SENT = re.compile(r"[^ -~\n]")


def read_quotes(path: str) -> tuple[str, ...]:
    """Return the quotes of a file, which lines that hold only ``%`` separate (fortune(6)).

    Raises ValueError with the reason and the line.
    """
    text = read_text_file(path, MAX_FILE_SIZE).replace("\r\n", "\n")
    quotes = tuple(_checked_quotes(text if text.endswith("\n") else f"{text}\n"))
    if not quotes:
        raise ValueError("holds no quote")
    return quotes


def _checked_quotes(text: str) -> Iterator[str]:
    line = 1
    for piece in _SEPARATOR.split(text):
        quote = piece.rstrip("\n")
        wrong = _NOT_SENT.search(quote)
        if wrong:
            at = line + quote.count("\n", 0, wrong.start())
            raise ValueError(f"line {at}: {wrong[0]!r} is not a printable character of ASCII")
        if len(quote) > MAX_QUOTE_LENGTH:
            raise ValueError(
                f"line {line}: a quote of {len(quote)} characters, at most {MAX_QUOTE_LENGTH}"
            )
        if quote:
            yield quote
        line += piece.count("\n") + 1


@frozen
class QotdSettings:
    """The settings of qotd."""

    file: Path | None = field(default=None)
    """A file of quotes, separated by lines that hold only ``%``; None for the built-in ones."""

    @file.validator
    def _check_file(self, attribute: "Attribute[Path | None]", value: Path | None) -> None:
        if value is not None:
            try:
                read_quotes(str(value))
            except ValueError as error:
                raise ValueError(f"{value}: {error}") from error


class QuoteFile:
    """The quotes of a file, which is read again when it changes; *clock* returns seconds.

    Raises ValueError if the file is invalid at first; later the previous quotes stay.
    """

    log = Logger()

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = os.path.abspath(path)
        self._clock = clock
        self._state = self._file_state()
        self._quotes = read_quotes(self._path)
        self._checked = clock()

    def quotes(self) -> Sequence[str]:
        """Return the present quotes."""
        now = self._clock()
        if now - self._checked >= CHECK_INTERVAL:
            self._checked = now
            state = self._file_state()
            if state != self._state:
                self._state = state
                self._read_again()
        return self._quotes

    def _read_again(self) -> None:
        try:
            self._quotes = read_quotes(self._path)
        except ValueError as error:
            self.log.warn(
                "qotd: {path}: {error}; serving the previous quotes",
                path=printable(self._path),
                error=str(error),
            )
        else:
            self.log.info("qotd: {path}: read again", path=printable(self._path))

    def _file_state(self) -> tuple[int, ...] | None:
        """Return values that change with the file or its contents; None if it is absent."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _built_in_quotes() -> Sequence[str]:
    return QUOTES


@implementer(IStreamService, IDatagramService)
class QotdService:
    """The plugin; *choose* picks one of the quotes."""

    name = "qotd"
    description = "send a quote (RFC 865)"
    settings = QotdSettings

    def __init__(self, choose: Callable[[Sequence[str]], str] = random.choice) -> None:
        self._choose = choose

    def stream(self, settings: QotdSettings | None) -> IProtocolFactory:
        return MessageFactory(self._message(settings))

    def datagram(self, settings: QotdSettings | None) -> DatagramProtocol:
        return MessageDatagrams(self._message(settings))

    def _message(self, settings: QotdSettings | None) -> Message:
        file = None if settings is None else settings.file
        quotes = _built_in_quotes if file is None else QuoteFile(file).quotes
        return lambda peer: f"{self._choose(quotes())[:MAX_QUOTE_LENGTH]}{END}".encode("ascii")
