"""The text of ``/status.json``."""

import json
from collections.abc import Mapping
from typing import Any

from netsrv.status.source import EncodedListener, Snapshot


def encode(value: Any) -> str:
    """Return a plain value as JSON."""
    return json.dumps(value, separators=(",", ":"))


def decode_listeners(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot with its listeners as plain values."""
    return {**snapshot, "listeners": [*map(json.loads, map(_whole, snapshot["listeners"]))]}


def render_document(snapshot: Snapshot, more: Mapping[str, Any], brief: bool = False) -> bytes:
    """Return a snapshot with *more* keys as JSON, if *brief* without the settings of listeners."""
    listeners = [row.state if brief else _whole(row) for row in snapshot["listeners"]]
    server = {key: value for key, value in snapshot.items() if key != "listeners"}
    head = encode({**server, **more})
    return f'{head[:-1]},"listeners":[{",".join(listeners)}]}}\n'.encode()


def _whole(listener: EncodedListener) -> str:
    return f"{listener.state[:-1]},{listener.settings[1:]}"
