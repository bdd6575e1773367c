"""The text of ``/status.json``."""

import json
from collections.abc import Mapping
from typing import Any

from netsrv.status.source import Snapshot


def render_document(snapshot: Snapshot, more: Mapping[str, Any]) -> bytes:
    """Return a snapshot with *more* keys as JSON.

    A listener is encoded at a time: the encoder holds the interpreter's lock meanwhile, and a
    thousand listeners would keep the reactor from it for long.
    """
    listeners = [_encode(row) for row in snapshot["listeners"]]
    server = {key: value for key, value in snapshot.items() if key != "listeners"}
    head = _encode({**server, **more})
    return f'{head[:-1]},"listeners":[{",".join(listeners)}]}}\n'.encode()


def _encode(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
