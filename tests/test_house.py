"""Rules for the tests themselves."""

import ast

import pytest

from tests.checkout import TOP

pytestmark = pytest.mark.version_independent

TESTS = sorted((TOP / "tests").rglob("test_*.py"))


def imported(path):
    """Return the dotted names that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def annotated_tests(path):
    """Return the names of the test functions of a file that have an annotation."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:5] == "test_":
            arguments = [part for part in ast.walk(node.args) if isinstance(part, ast.arg)]
            if node.returns or any(argument.annotation for argument in arguments):
                yield node.name


def test_no_module_imports_a_test_module():
    """What several modules use is in a module without tests: clients, doubles, timeouts ..."""
    paths = [path for folder in ("tests", "bench") for path in (TOP / folder).rglob("*.py")]
    names = {name for path in paths for name in imported(path)}
    assert [name for name in names if name.startswith("tests.") and ".test_" in name] == []


def waits_without_end(path):
    """Return the lines of a file where a ``with`` statement waits for the end of a process."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.With):
            for item in node.items:
                if ast.unparse(item.context_expr).startswith(("subprocess.Popen(", "Popen(")):
                    yield node.lineno


def test_no_test_waits_for_a_process_that_its_failure_leaves_running():
    """A test uses `Running` or `killed_at_end`, which kill the process."""
    assert {path.name: lines for path in TESTS if (lines := list(waits_without_end(path)))} == {}


def test_test_functions_have_no_annotations():
    """No type checker reads the tests, and pytest passes the arguments by name."""
    assert {path.name: names for path in TESTS if (names := list(annotated_tests(path)))} == {}
