"""Reports: what a command prints instead of serving."""

from collections.abc import Iterable
from typing import NoReturn

from netsrv.cli.arguments import Given
from netsrv.cli.check import list_services
from netsrv.cli.commands import HELP, Command
from netsrv.cli.help import render_help
from netsrv.cli.mistakes import UsageMistake, wrong_choice
from netsrv.cli.options import COMPLETION, LIST_SERVICES, SCHEMA, VERSION
from netsrv.cli.printing import print_error, print_report
from netsrv.registry import Registry, find_services
from netsrv.sockets.addresses import printable


def print_reports(command: Command, given: Given, io_error: int) -> None:
    """Print the first report that is asked for about *command*, and exit; or return.

    *io_error* is the exit status if it cannot be printed.  Raises `UsageMistake`.
    """
    for name, value in given:
        if name == HELP.name:
            print_report(render_help(command), io_error)
        if name == VERSION.name:
            from netsrv.cli.versions import version_report

            print_report(version_report(), io_error)
        if name == COMPLETION.name:
            if value not in COMPLETION.choices:
                raise UsageMistake(wrong_choice(COMPLETION, value))
            from netsrv.cli.completion import completion_script

            print_report(completion_script(value), io_error)
        if name == SCHEMA.name:
            from netsrv.config.schema import FILE

            print_report(FILE.read_text().rstrip(), io_error)
        if name == LIST_SERVICES.name:
            registry = find_services()
            print_about_services(list_services(registry), registry, io_error)


def print_about_services(lines: Iterable[str], registry: Registry, io_error: int) -> NoReturn:
    """Print a report, after the problems of the services, and exit."""
    for problem in registry.problems:
        print_error(f"netsrv: {problem}")
    print_report("\n".join(map(printable, lines)), io_error)
