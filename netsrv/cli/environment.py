"""The environment variables of ``netsrv serve``: one for each option that is a setting."""

import re
from collections.abc import Iterable, Iterator, Mapping

from netsrv.cli.arguments import Given
from netsrv.cli.commands import Option
from netsrv.cli.mistakes import UsageMistake
from netsrv.control.opening import TOKEN_VARIABLES
from netsrv.settings import nearest, quote_value
from netsrv.status.access import TOKEN_VARIABLE

PREFIX = "NETSRV_"
OTHER_NAMES = [name.removeprefix(PREFIX) for name in (TOKEN_VARIABLE, *TOKEN_VARIABLES)]
"""Names of variables that stand for no option."""

FLAGS = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}
"""The values of a flag, in lower case."""

_OTHERS = re.compile(r"TEST_.*|.*_SERVICE_(HOST|PORT.*)|(.*_)?PORT(_\d+_(TCP|UDP|SCTP).*)?")
"""The variables of our tests, and what Kubernetes and Docker's links set for a service named
``netsrv``, after the prefix."""


def given_by(environ: Mapping[str, str], options: Iterable[Option]) -> Given:
    """Return the options that the environment gives, as a command line would.

    An empty variable counts as unset.  Raises `UsageMistake`.
    """
    given: Given = []
    for option in options:
        text = environ.get(option.variable, "") if option.is_setting else ""
        if text.strip():
            given += [(option.name, value) for value in _values(option, text)]
    return given


def _values(option: Option, text: str) -> Iterator[str | bool]:
    if not option.metavar:
        yield _flag(option.variable, text)
    elif option.repeatable:
        yield from _words(text) if option.listed else _items(text)
    else:
        yield ",".join(_items(text)) if option.listed else text


def _items(text: str) -> list[str]:
    return re.findall(r"[^\s,]+", text)


def _words(text: str) -> Iterator[str]:
    """Yield items that have commas themselves, so only spaces separate them."""
    return filter(None, (word.strip(",") for word in text.split()))


def _flag(variable: str, text: str) -> bool:
    try:
        return FLAGS[text.strip().lower()]
    except KeyError:
        message = f"{variable} {quote_value(text)}: one of {', '.join(FLAGS)}"
        raise UsageMistake(message) from None


def unknown_variables(environ: Mapping[str, str], options: Iterable[Option]) -> Iterator[str]:
    """Yield a line for each variable that looks like a misspelt one of ours.

    Other programs may use the prefix for their own variables, so only a near miss is named.
    """
    settings = [option for option in options if option.is_setting]
    known = [*OTHER_NAMES, *(option.variable.removeprefix(PREFIX) for option in settings)]
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if variable == name or name in known or _OTHERS.fullmatch(name):
            continue
        if near := nearest(name, known):
            yield f"{variable}: there is no such variable; did you mean {PREFIX}{near}?"
