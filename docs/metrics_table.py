"""The reference's list of metrics, made from the table that the metrics are made from."""

from netsrv.status.families import (
    LISTENER_FAMILIES,
    PROCESS_FAMILIES,
    SERVER_FAMILIES,
    WORKER_FAMILIES,
    Family,
)

GROUPS = {
    "Metrics of a listener": (LISTENER_FAMILIES, ("listener",)),
    "Metrics of the server": (SERVER_FAMILIES, ()),
    "Metrics of workers": (WORKER_FAMILIES, ()),
    "Metrics of the process": (PROCESS_FAMILIES, ()),
}


def metrics_list() -> list[str]:
    """Return the metrics as lines of reStructuredText, by groups."""
    lines = []
    for title, (families, labels) in GROUPS.items():
        lines += [f".. rubric:: {title}", "", ".. list-table::", "   :header-rows: 1"]
        lines += ["   :widths: 44 12 44", "", *_row("Metric", "Type", "Meaning")]
        for family in families:
            lines += _row(_name(family, labels), family.kind.value, family.help)
        lines.append("")
    return lines


def _name(family: Family, labels: tuple[str, ...]) -> str:
    given = ("version", "reactor") if family.name == "netsrv_build" else family.labels
    names = ", ".join((*labels, *given))
    return f"``{family.sample_name}``" + (f" {{{names}}}" if names else "")


def _row(*cells: str) -> list[str]:
    first, *others = cells
    return [f"   * - {first}", *(f"     - {cell}" for cell in others)]
