"""The values of ``fault``: tables of a file, and texts of the option ``--fault``.

What reads them is imported late: most servers have no fault.
"""

from collections.abc import Sequence
from typing import Any

from netsrv.config.fault import FAULT_OPTION, Fault
from netsrv.settings import Kind


def _parse_tables(value: Any) -> tuple[Fault, ...]:
    from netsrv.config.fault_reading import parse_faults

    return parse_faults(value)


def _parse_texts(texts: Sequence[str]) -> tuple[Fault, ...]:
    from netsrv.config.fault_reading import parse_texts

    return parse_texts(texts)


def _schema() -> dict[str, Any]:
    from netsrv.config.fault_reading import fault_schema

    return fault_schema()


FAULTS = Kind(
    _parse_tables,
    "tables of faults, each of which begins with ``[[listener.fault]]``",
    FAULT_OPTION,
    _parse_texts,
    repeatable=True,
    listed=True,
    plain=lambda faults: [fault.name for fault in faults],
    schema=_schema,
)
