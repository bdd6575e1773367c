"""Rules for the tests themselves."""

import ast

from tests.checkout import TOP


def imported(path):
    """Return the dotted names that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_no_module_imports_a_test_module():
    """What several modules use is in a module without tests: clients, doubles, timeouts ..."""
    bad = {
        str(path.relative_to(TOP)): name
        for folder in ("tests", "bench")
        for path in (TOP / folder).rglob("*.py")
        for name in imported(path)
        if name.startswith("tests.") and ".test_" in name
    }
    assert bad == {}
