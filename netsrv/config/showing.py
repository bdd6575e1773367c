"""Settings as users write them: the values of a file again, from those in effect."""

from collections.abc import Callable, Mapping, Set
from enum import Enum
from os import PathLike, fspath
from typing import Any

import attrs

from netsrv.config.model import LISTENER_SETTINGS, ListenerSettings
from netsrv.guards.limits import ACCESS, CONNECTIONS, DATAGRAMS, TIMEOUTS
from netsrv.guards.proxies import PROXY_PROTOCOL, STREAM_SETTINGS
from netsrv.guards.rates import Rate, parse_rate
from netsrv.settings import Section, Setting, exception_text
from netsrv.tls.settings import TLS


def plain_value(value: Any) -> Any:
    """Return a value in TOML's types, as a file has it; None for no limit.

    Fields that a class leaves out of its repr, such as passwords, are left out here too.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind, convert in _CONVERTERS.items():
        if isinstance(value, kind):
            return convert(value)
    if attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value)) if field.repr]
        return {name: plain_value(getattr(value, name)) for name in names}
    try:
        return str(value)
    except Exception as error:  # a third party's class may do anything
        return exception_text(error)


def _show_rate(rate: Rate) -> str:
    per_second, burst = show_plain(rate.per_second), show_plain(rate.burst)
    return per_second if rate == parse_rate(per_second) else f"{per_second}:{burst}"


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    Enum: lambda member: member.value,
    Rate: _show_rate,
    Set: lambda items: sorted(map(plain_value, items), key=str),
    PathLike: fspath,
    list | tuple: lambda items: [plain_value(item) for item in items],
    Mapping: lambda table: {str(key): plain_value(item) for key, item in table.items()},
}


def show_plain(value: Any) -> str:
    """Return the text of a value that `plain_value` has returned."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list):
        return ", ".join(map(show_plain, value)) or "none"
    return str(value)


def limits_in_effect(settings: ListenerSettings) -> dict[Setting, Any]:
    """Return the settings of a listener's limits, access rules, PROXY protocol and TLS.

    Each has its value.  Those that do not concern it are left out.
    """
    transport = settings.transport
    sections: list[Section] = [CONNECTIONS, TIMEOUTS] if transport.is_stream else [DATAGRAMS]
    if transport.takes_port:
        sections.append(ACCESS)
    if settings.proxy_protocol.enabled:
        sections.append(PROXY_PROTOCOL)
    if settings.tls.certificate is not None:
        sections.append(TLS)
    return {
        setting: getattr(_table_of(settings, setting.section), setting.attribute)
        for setting in LISTENER_SETTINGS.values()
        if setting.section in sections
        and not (setting.keyword in STREAM_SETTINGS and not transport.is_stream)
    }


def _table_of(settings: ListenerSettings, section: Section) -> Any:
    if section is PROXY_PROTOCOL:
        return settings.proxy_protocol
    return settings.tls if section is TLS else settings.limits
