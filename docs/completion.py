"""The completion of the shells, made by shtab from the parser of the command itself.

``python -m docs.completion`` writes the scripts that ``netsrv --completion`` prints and that the
wheel installs where the shells look for them.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import shtab

from netsrv.cli.arguments import make_parser
from netsrv.cli.commands import Command
from netsrv.cli.completion import SCRIPTS
from netsrv.cli.options import COMMANDS, NETSRV

BASH = r"""
# Prints the services of a transport, each with an equals sign.
_netsrv_services() {
  local words=$(netsrv serve --list-services 2>/dev/null |
    awk -v transport="$1" '$2 == transport || $3 == transport { print $1 "=" }')
  compgen -W "$words" -- "$2"
}
_netsrv_tcp() { _netsrv_services tcp "$1"; }
_netsrv_udp() { _netsrv_services udp "$1"; }
_netsrv_unix() { _netsrv_services tcp "$1"; compgen -f -- "$1"; }

_netsrv() {
  # An equals sign is a word of its own to bash.  The argument of an option, or the address or
  # path of a listener, comes after it.
  local equals=$COMP_CWORD word=${COMP_WORDS[COMP_CWORD]}
  [[ $word == "=" ]] || ((equals--))
  if [[ ${COMP_WORDS[equals]} == "=" && ${COMP_WORDS[equals-1]} == -* ]]; then
    COMP_WORDS=("${COMP_WORDS[@]:0:equals}" "${word#=}")
    COMP_CWORD=$equals
  elif [[ ${COMP_WORDS[equals]} == "=" ]]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "${word#=}"))
    return 0
  fi
  _shtab_netsrv "$@"
  [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
"""
ZSH = r"""
# Adds the services of a transport, each with an equals sign.
_netsrv_services() {
  local -a services
  services=(${(f)"$(netsrv serve --list-services 2>/dev/null |
    awk -v transport="$1" '$2 == transport || $3 == transport {
      name = $1; sub(/^[^ ]+ +((tcp|udp) +)+/, ""); print name ":" $0 }')"})
  _describe service services -S =
}
_netsrv_tcp() { _netsrv_services tcp; }
_netsrv_udp() { _netsrv_services udp; }
_netsrv_unix() {
  if compset -P '*='; then _files; else _netsrv_services tcp; _files; fi
}
"""
FISH = r"""
# Prints the services of a transport, each with an equals sign and what it does.
function __netsrv_services
  netsrv serve --list-services 2>/dev/null |
    awk -v transport=$argv[1] '$2 == transport || $3 == transport {
      name = $1; sub(/^[^ ]+ +((tcp|udp) +)+/, ""); print name "=\t" $0 }'
end
"""
PREAMBLE = {"bash": BASH, "zsh": ZSH, "fish": FISH}

SERVICES = {
    "tcp": {"bash": "_netsrv_tcp", "zsh": "_netsrv_tcp", "fish": "(__netsrv_services tcp)"},
    "udp": {"bash": "_netsrv_udp", "zsh": "_netsrv_udp", "fish": "(__netsrv_services udp)"},
    "unix": {
        "bash": "_netsrv_unix",
        "zsh": "_netsrv_unix",
        "fish": "(__netsrv_services tcp; __fish_complete_path (commandline -ct))",
    },
}


def make_script(shell: str) -> str:
    """Return the completion for a shell."""
    parser = make_parser(NETSRV)
    commands = parser.add_subparsers(metavar="COMMAND")
    for command in COMMANDS.values():
        _add_command(commands, command)
    _add_values(parser)
    script: str = shtab.complete(parser, shell, preamble=PREAMBLE)
    head, line, rest = script.partition("complete -o bashdefault -F _shtab_netsrv netsrv")
    if line:
        script = f"{head}complete -o bashdefault -F _netsrv netsrv{rest}"
    return "\n".join(map(str.rstrip, script.strip().splitlines())) + "\n"


def _add_command(commands: Any, command: Command) -> None:
    """Add the parser of a command, and those of the commands below it."""
    parser = make_parser(command, partial(commands.add_parser, command.word, help=command.help))
    if command.commands:
        below = parser.add_subparsers(metavar="COMMAND")
        for inner in command.commands:
            _add_command(below, inner)


class _Repeated(argparse._AppendAction):
    """Tells shtab that an option may be given many times."""


def _add_values(parser: argparse.ArgumentParser, command: Command = NETSRV) -> None:
    """Add what the arguments of a command's options may be."""
    operands = () if command.operand is None else (command.operand,)
    options = {option.name: option for option in (*command.options, *operands)}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                inner = command.find(name)
                assert inner is not None
                subparser.description = inner.help
                _add_values(subparser, inner)
            continue
        option = options[action.dest]
        if option.repeatable:
            action.__class__ = _Repeated
        if option.choices:
            action.choices = option.choices
        if option.name in SERVICES:
            action.complete = SERVICES[option.name]
        elif option.takes_file:
            action.complete = shtab.FILE


def main() -> None:
    """Write the scripts."""
    for shell, path in SCRIPTS.items():
        Path(str(path)).write_text(make_script(shell))


if __name__ == "__main__":
    main()
