"""The commands that ask a running server: their options and texts."""

from argparse import ArgumentError
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from attrs import evolve

from netsrv.cli.arguments import make_parser
from netsrv.cli.commands import HELP, Command, Option, report_option
from netsrv.cli.fault_clients import FAULTS

ADDRESS = Option(
    "address", (), "The server", "the address of --status or --health", "ADDRESS", is_setting=False
)
TIMEOUT = Option(
    "timeout",
    ("--timeout",),
    "The server",
    "wait S seconds for the answer",
    "S",
    "5",
    is_setting=False,
)
STATUS_ADDRESSES = (
    "ADDRESS is PORT, HOST:PORT, [IPV6]:PORT or unix:PATH; without it the environment variable "
    "NETSRV_STATUS has it."
)
STATUS = Command(
    "netsrv status",
    "ask whether a running server is ready",
    "Asks a running server whether it is ready, and prints one line. The exit status is 0 if it is "
    "ready, 1 if it is not, and 69 if it cannot be reached.",
    (TIMEOUT, HELP),
    (
        ("127.0.0.1:8423", "ask the server on this address of --status or --health"),
        ("unix:/run/netsrv/status.sock", "ask the server on this unix socket"),
    ),
    (STATUS_ADDRESSES,),
    "[options] [ADDRESS]",
    ADDRESS,
)
ONCE = report_option("once", "print one table, a second after the start, and exit")
JSON = report_option("json", "print each answer as a line of JSON; with --once, the first one only")
TOKEN_FILE = Option(
    "token",
    ("--token-file",),
    "The server",
    "read the token of the server from a file",
    "FILE",
    is_setting=False,
)
TOP = Command(
    "netsrv top",
    "show a running server in the terminal",
    "Shows the state, the listeners, the last refusals and endings and the sources of a running "
    "server in the terminal, and asks each second. Where standard output is no terminal it prints "
    "a line each second. The exit status is 69 if the server cannot be reached at the start.",
    (TOKEN_FILE, ONCE, JSON, HELP),
    (
        ("127.0.0.1:8423", "show the server on this address of --status"),
        ("--once unix:/run/netsrv/status.sock", "print one table"),
    ),
    (
        f"{STATUS_ADDRESSES} A token may also be in NETSRV_STATUS_TOKEN.",
        "Keys: the underlined letter of a column sorts by it, and once more turns the order; 1 to "
        "6 and Tab choose the table, / filters, arrows scroll, space pauses, q quits.",
    ),
    "[options] [ADDRESS]",
    evolve(ADDRESS, help="the address of --status"),
)
CLIENTS = (STATUS, TOP, FAULTS)
"""Each has a module ``netsrv.cli.NAME_command`` with a function ``run``."""


def run_client(command: Command, given: Iterable[tuple[str, Any]]) -> int:
    """Run one of `CLIENTS` with the options that are given, and return the exit status."""
    run = import_module(f"netsrv.cli.{command.module or command.word}_command").run
    status: int = run(command.word, given) if command.module else run(given)
    return status


def run_fast(arguments: Sequence[str]) -> int | None:
    """Run a command line of one of `CLIENTS`, and return the exit status.

    Returns None, and does nothing, if it is one of another command, asks for help or is wrong:
    that needs the tables of all commands, which take longer to import.
    """
    for client in CLIENTS:
        if arguments and arguments[0] == client.word:
            command, words = client.descend(arguments[1:])
            try:
                namespace, extras = make_parser(command).parse_known_args(words)
            except ArgumentError:
                return None
            given = getattr(namespace, "given", [])
            if not extras and not command.commands and HELP.name not in dict(given):
                return run_client(command, given)
    return None
