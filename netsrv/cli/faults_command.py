"""``netsrv faults``: a client of the control API, and of toxiproxy, with toxiproxy-cli's words."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

from netsrv.cli.fetching import fetch, parse_target, read_token
from netsrv.cli.printing import ExitStatus, print_error, print_line
from netsrv.settings import parse_scalar
from netsrv.sockets.addresses import printable

URL_VARIABLE = "TOXIPROXY_URL"
DEFAULT_URL = "http://localhost:8474"
TOKEN_VARIABLES = ("NETSRV_CONTROL_TOKEN", "TOXIPROXY_AUTH_TOKEN")

TIMEOUT = 30.0
"""Seconds to wait for an answer."""

REFUSED = 1
"""The exit status if the server refuses what is asked for."""

PROXIES_HEAD = ("Name", "Listen", "Upstream", "Enabled", "Faults")
TOXICS_HEAD = ("Name", "Type", "Stream", "Toxicity", "Attributes", "Hits")

SELECTORS = ("skip", "first", "every", "only_from", "ttl", "seed")

NEEDED = {
    "create": {"listen": "-l ADDRESS", "upstream": "-u ADDRESS"},
    "add": {"type": "-t TYPE"},
    "update": {"toxic": "-n NAME"},
    "remove": {"toxic": "-n NAME"},
}
"""What a command cannot do without."""

Values = dict[str, Any]


class Refused(Exception):
    """The server refuses what is asked for; the text says why."""


class Client:
    """Sends requests to the control API, and prints what they bring."""

    def __init__(self, values: Values) -> None:
        url = values.get("host") or os.environ.get(URL_VARIABLE, "").strip() or DEFAULT_URL
        self.target = parse_target(url.rstrip("/"))
        self._token = read_token(values.get("token"), TOKEN_VARIABLES)
        self._json = "json" in values

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Return the JSON of an answer.  Raises `Refused`, OSError or ValueError."""
        body = b"" if content is None else json.dumps(content).encode()
        answer = fetch(self.target, path, self._token, TIMEOUT, method, body)
        text = answer.body.decode("utf-8", "replace")
        try:
            value = json.loads(text) if text.strip() else None
        except ValueError:
            value = text.strip()
        if answer.status >= 400:
            error = value.get("error") if isinstance(value, dict) else value
            raise Refused(str(error or f"HTTP {answer.status}"))
        return value

    @property
    def on_terminal(self) -> bool:
        """True if standard output is a terminal."""
        return sys.stdout is not None and sys.stdout.isatty()

    def show(self, value: Any, *lines: str) -> None:
        """Print lines, or *value* as JSON if that is asked for."""
        if self._json:
            print_line(json.dumps(value, indent=2))
            return
        for line in lines:
            print_line(printable(line))

    def show_table(self, value: Any, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table on a terminal, and lines with tabs elsewhere; or JSON."""
        if not self._json and not self.on_terminal:
            for row in rows:
                print_line("\t".join(map(printable, row)))
            return
        columns = zip(head, *rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *rows)
        ]
        self.show(value, *lines)


def run(word: str, given: Iterable[tuple[str, Any]]) -> int:
    """Run one of the commands by its word, and return the exit status."""
    given = list(given)
    values = dict(given)
    values["attributes"] = [text for name, text in given if name == "attribute"]
    try:
        client = Client(values)
        if word not in ("list", "reset") and "name" not in values:
            raise ValueError(f"the name of a proxy is missing, as in netsrv faults {word} web")
        call = COMMANDS[word]
        request = _prepare(word, values)
    except (OSError, ValueError) as error:
        print_error(f"netsrv: {getattr(error, 'strerror', None) or error}")
        return ExitStatus.USAGE
    try:
        call(client, values.get("name", ""), request)
    except Refused as error:
        print_error(f"netsrv: {word} {printable(values.get('name', ''))}: {printable(str(error))}")
        return REFUSED
    except (OSError, ValueError) as error:
        print_error(f"netsrv: {client.target}: {getattr(error, 'strerror', None) or error}")
        return ExitStatus.UNAVAILABLE
    return 0


def _prepare(word: str, values: Values) -> Values:
    """Return the object that a command sends.  Raises ValueError."""
    for name, text in NEEDED.get(word, {}).items():
        if not values.get(name):
            raise ValueError(f"{text} is missing")
    if word == "create":
        keys = ("name", "listen", "upstream", "protocol")
        return {key: values[key] for key in keys if key in values}
    toxic: Values = {"attributes": dict(map(_parse_pair, values["attributes"]))}
    if "toxic" in values:
        toxic["name"] = values["toxic"]
    if "toxicity" in values:
        toxic["toxicity"] = _parse_toxicity(values["toxicity"])
    return toxic | _prepare_new(values) if word == "add" else toxic


def _prepare_new(values: Values) -> Values:
    """Return what only a new fault has: its type, its stream, its selectors."""
    if "up" in values and "down" in values:
        raise ValueError("only one of --upstream and --downstream")
    toxic = {"type": values["type"], "stream": "upstream" if "up" in values else "downstream"}
    for name in filter(values.__contains__, SELECTORS):
        is_list = name == "only_from"
        toxic[name] = values[name].split(",") if is_list else parse_scalar(values[name])
    return toxic


def _parse_pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"-a {text}: write -a KEY=VALUE")
    return key, {"true": True, "false": False}.get(value, parse_scalar(value))


def _parse_toxicity(text: str) -> float:
    try:
        toxicity = float(text)
    except ValueError:
        toxicity = -1.0
    if not 0 <= toxicity <= 1:
        raise ValueError(f"--toxicity {text}: a number from 0 to 1")
    return toxicity


def _path(name: str, *others: str) -> str:
    return "/".join(["/proxies", quote(name, ""), *(quote(other, "") for other in others)])


def _list(client: Client, _name: str, _request: Values) -> None:
    proxies = client.ask("GET", "/proxies")
    rows = [
        (
            proxy["name"],
            proxy["listen"],
            proxy["upstream"],
            "enabled" if proxy["enabled"] else "disabled",
            str(len(proxy["toxics"])),
        )
        for proxy in sorted(proxies.values(), key=lambda proxy: str(proxy["name"]))
    ]
    client.show_table(proxies, PROXIES_HEAD, rows)


def _inspect(client: Client, name: str, _request: Values) -> None:
    proxy = client.ask("GET", _path(name))
    rows = [_cells(toxic, client.on_terminal) for toxic in proxy["toxics"]]
    client.show_table(proxy, TOXICS_HEAD, rows)


def _cells(toxic: Values, bare: bool) -> list[str]:
    """Return the cells of a fault: values alone if *bare*, and else as toxiproxy-cli has them."""
    pairs = [f"{key}={value}" for key, value in sorted(toxic["attributes"].items())]
    values = {
        "type": toxic["type"],
        "stream": toxic["stream"],
        "toxicity": f"{toxic['toxicity']:.2f}",
        "attributes": " ".join(pairs) if bare else f"[ {' '.join([*pairs, ''])}]",
        "hits": str(toxic.get("hits", "")),
    }
    shown = values.values() if bare else (f"{key}={value}" for key, value in values.items())
    return [toxic["name"], *shown]


def _create(client: Client, name: str, request: Values) -> None:
    proxy = client.ask("POST", "/proxies", request)
    client.show(proxy, f"Created new proxy {name} on {proxy['listen']}")


def _toggle(client: Client, name: str, _request: Values) -> None:
    enabled = not client.ask("GET", _path(name))["enabled"]
    proxy = client.ask("POST", _path(name), {"enabled": enabled})
    client.show(proxy, f"Proxy {name} is now {'enabled' if enabled else 'disabled'}")


def _delete(client: Client, name: str, _request: Values) -> None:
    client.ask("DELETE", _path(name))
    client.show(None, f"Deleted proxy {name}")


def _add(client: Client, name: str, request: Values) -> None:
    toxic = client.ask("POST", _path(name, "toxics"), request)
    kind = f"{toxic['stream']} {toxic['type']}"
    client.show(toxic, f"Added {kind} toxic '{toxic['name']}' on proxy '{name}'")


def _update(client: Client, name: str, request: Values) -> None:
    toxic = client.ask("PATCH", _path(name, "toxics", request["name"]), request)
    client.show(toxic, f"Updated toxic '{request['name']}' on proxy '{name}'")


def _remove(client: Client, name: str, request: Values) -> None:
    client.ask("DELETE", _path(name, "toxics", request["name"]))
    client.show(None, f"Removed toxic '{request['name']}' on proxy '{name}'")


def _reset(client: Client, _name: str, _request: Values) -> None:
    client.ask("POST", "/reset")
    client.show(None, "Enabled all proxies, and removed all faults")


COMMANDS: dict[str, Callable[[Client, str, Values], None]] = {
    "list": _list,
    "inspect": _inspect,
    "create": _create,
    "toggle": _toggle,
    "delete": _delete,
    "add": _add,
    "update": _update,
    "remove": _remove,
    "reset": _reset,
}
"""What each command does, by its word."""
