"""The reference's list of options and table of keys, made from the settings themselves."""

from collections.abc import Iterable, Iterator

from netsrv.config.model import (
    LISTENER_SETTINGS,
    SERVER_SETTINGS,
    SERVER_TABLES,
    TABLE_SETTINGS,
)
from netsrv.settings import Setting

Row = tuple[str, str, str]

LISTENER_ROWS: list[Row] = [
    ("[[listener]]", "A listener: the keys below, up to the next ``[[listener]]``.", ""),
    ("service", "The name of a service.", '``"accept"``, and ``"echo"`` on UDP'),
    (
        "tcp",
        'An address, see `Addresses`_: ``"127.0.0.1:7"``, ``"same"``, or a number that is the '
        "port. Each listener has exactly one of ``tcp``, ``udp`` and ``unix``.",
        "",
    ),
    ("udp", "The same for UDP.", ""),
    ("unix", "The path of a unix socket.", ""),
]
TABLE_ROWS: dict[str, Row] = {
    "limits": ("[listener.limits]", "The limits, see `Limits`_: the keys below.", ""),
    "access": ("[listener.access]", "The access rules, see `Limits`_: the keys below.", ""),
    "proxy_protocol": (
        "[listener.proxy_protocol]",
        "The PROXY protocol, see :doc:`behind-a-load-balancer`: the keys below.",
        "",
    ),
    "tls": ("[listener.tls]", "TLS, see `Certificates`_: the keys below.", ""),
}
SERVER_TABLE_ROWS: dict[str, Row] = {
    "status": ("[status]", "The status server, see :doc:`watch-a-server`: the keys below.", ""),
    "control": ("[control]", "The control API, see `The control API`_: the keys below.", ""),
}
SETTINGS_ROW: Row = (
    "[listener.settings]",
    "The service's own settings, see `Settings of the services`_.",
    "the service's own",
)


OPTIONS = {
    setting.option: setting
    for setting in (LISTENER_SETTINGS | SERVER_SETTINGS | TABLE_SETTINGS).values()
    if setting.option is not None
}
"""The settings that are options of the command, by the option."""


def options_list() -> list[str]:
    """Return the options that are settings, by sections, as lines of reStructuredText."""
    lines = []
    section = ""
    for option, setting in OPTIONS.items():
        if setting.section.title != section:
            section = setting.section.title
            lines += [f".. rubric:: {section}", ""]
        names = f"{option} {setting.kind.metavar}".strip()
        if setting.negation:
            names = f"{names}, {setting.negation}"
        lines += [f".. option:: {names}", "", f"   {_meaning(setting)}"]
        lines += ["", f"   Default: {setting.default_text}.", ""]
    return lines


def keys_table() -> list[str]:
    """Return the table of all keys of a file, as lines of reStructuredText."""
    return _table(("Key", "Value", "Default"), (26, 50, 24), _key_rows())


def _key_rows() -> Iterator[Row]:
    rows = [_key_row(setting) for setting in SERVER_SETTINGS.values()]
    for table, (_, settings) in SERVER_TABLES.items():
        rows += [SERVER_TABLE_ROWS[table], *map(_key_row, settings.values())]
    rows += LISTENER_ROWS
    for table in ("", *TABLE_ROWS):
        rows += [TABLE_ROWS[table]] if table else []
        for setting in LISTENER_SETTINGS.values():
            if setting.key and setting.section.table == table:
                is_own = setting.name == "settings"
                rows.append(SETTINGS_ROW if is_own else _key_row(setting))
    for key, value, default in rows:
        yield f"``{key}``", value, default


def _key_row(setting: Setting) -> Row:
    value = _sentence(setting.kind.value)
    if setting.option is None:
        return setting.name, f"{value} {_meaning(setting)}", setting.default_text
    return setting.name, f"{value[:-1]}; see :option:`{setting.option}`.", setting.default_text


def _meaning(setting: Setting) -> str:
    return f"{_sentence(setting.help)} {setting.details}".strip()


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _table(header: Row, widths: tuple[int, ...], rows: Iterable[Row]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}"]
    lines.append("")
    for first, *others in (header, *rows):
        lines.append(f"   * - {first}")
        lines += [f"     - {text}".rstrip() for text in others]
    return lines
