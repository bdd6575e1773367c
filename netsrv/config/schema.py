"""The JSON Schema of the configuration file (draft 2020-12), made from the settings.

``python -m netsrv.config.schema`` writes ``netsrv.schema.json``, which is a part of the package.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netsrv.config.document import LISTENER_KEYS
from netsrv.config.model import LISTENER_SETTINGS, SERVER_SETTINGS, SERVER_TABLES, Transport
from netsrv.settings import Kind, Setting

FILE = Path(__file__).with_name("netsrv.schema.json")

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def make_schema() -> Schema:
    """Return the schema of a configuration file."""
    return {
        "$schema": DIALECT,
        "title": "netsrv: the configuration file",
        **_table_of(
            _properties(SERVER_SETTINGS)
            | {
                name: _table_of(_properties(settings))
                for name, (_, settings) in SERVER_TABLES.items()
            }
            | {"listener": {"type": "array", "items": _listener()}}
        ),
    }


def _listener() -> Schema:
    properties: Schema = {
        "service": {"type": "string", "description": "the name of a service"},
    }
    for transport in Transport:
        properties[transport.value] = {
            "description": f"serve on {transport.value}: {transport.address_kind.value}",
            **_schema_of(transport.address_kind),
        }
    tables: dict[str, Schema] = {}
    for setting in LISTENER_SETTINGS.values():
        if setting.key:
            table = setting.section.table
            place = tables.setdefault(table, {}) if table else properties
            place[setting.name] = _property(setting)
    properties["settings"] = {"type": "object", "description": "the service's own settings"}
    properties |= {table: _table_of(inner) for table, inner in tables.items()}
    ordered = {key: properties[key] for key in LISTENER_KEYS}
    addresses = [{"required": [transport.value]} for transport in Transport]
    return {**_table_of(ordered), "oneOf": addresses}


def _properties(settings: Mapping[str, Setting]) -> Schema:
    return {name: _property(setting) for name, setting in settings.items()}


def _property(setting: Setting) -> Schema:
    description = f"{setting.help} (default: {setting.default_text})" if setting.help else ""
    return {"description": description.lstrip(), **_schema_of(setting.kind)}


def _schema_of(kind: Kind) -> Mapping[str, Any]:
    return kind.schema() if callable(kind.schema) else kind.schema


def _table_of(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def schema_text() -> str:
    """Return the schema as a file."""
    return json.dumps(make_schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text())
