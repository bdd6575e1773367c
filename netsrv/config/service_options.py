"""Settings of services on the command line: ``--setting SERVICE.KEY=VALUE``.

An argument is text.  The type of the key in the service's own class says what it stands for.
"""

import re
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from netsrv.config.model import ConfigurationError
from netsrv.settings import quote_value

OPTION = "--setting"

_FORM = re.compile(r"([^.=\s]+)\.([^.=\s]+)=(.*)", re.DOTALL)

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def split_settings(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the texts of the keys by the names of the services.

    Raises `ConfigurationError` with a line for each text that has another form.
    """
    settings: dict[str, dict[str, str]] = {}
    lines = []
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is None:
            form = "write SERVICE.KEY=VALUE, as in qotd.file=quotes.txt"
            lines.append(f"{OPTION} {quote_value(text)}: {form}")
        elif match[2] in settings.setdefault(match[1], {}):
            lines.append(f"{OPTION} {match[1]}.{match[2]} is given twice")
        else:
            settings[match[1]][match[2]] = match[3]
    if lines:
        raise ConfigurationError(*lines)
    return settings


def plain_settings(texts: Mapping[str, str], settings_class: Any) -> dict[str, Any]:
    """Return texts as the types of their keys; one that does not fit, or has no key, stays text."""
    try:
        kinds = get_type_hints(settings_class)
    except Exception:  # a third party's class may have any annotations
        kinds = {}
    return {key: _convert(text, kinds.get(key)) for key, text in texts.items()}


def _convert(text: str, kind: Any) -> Any:
    if get_origin(kind) in (list, tuple):
        return [_convert(item.strip(), get_args(kind)[0]) for item in text.split(",")]
    kinds = [inner for inner in get_args(kind) if inner is not NoneType] or [kind]
    if kinds[0] is bool:
        return _BOOLEANS.get(text.lower(), text)
    for number in (int, float):
        if number in kinds or (number is int and float in kinds):
            try:
                return number(text)
            except ValueError:
                pass
    return text
