"""The completion of the shells: scripts made from the parser, which the package has as files."""

from pathlib import Path

NAMES = {"bash": "netsrv.bash", "zsh": "_netsrv", "fish": "netsrv.fish"}
"""The names by which the shells look for the scripts."""

SCRIPTS = {shell: Path(__file__).parent / "scripts" / name for shell, name in NAMES.items()}


def completion_script(shell: str) -> str:
    """Return the completion for a shell."""
    return SCRIPTS[shell].read_text().rstrip("\n")
