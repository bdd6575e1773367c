"""The house style's forbidden words become fewer."""

import pytest

from tests.docs.prose import ALLOWED, counts

pytestmark = pytest.mark.version_independent


def test_no_file_has_more_or_fewer_forbidden_words_than_listed():
    """New text has none, and the list shrinks with the old text: see tests/docs/prose.py."""
    found, allowed = set(counts()), set(ALLOWED.read_text().split("\n")) - {""}
    assert (sorted(found - allowed), sorted(allowed - found)) == ([], []), (
        "write plainly, then python -m tests.docs.prose > tests/docs/prose_allowed.txt"
    )
