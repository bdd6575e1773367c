"""The kinds of values that only a listener has."""

import re

import pytest

from netsrv.config.kinds import MODE

GRADED = [
    owner << 6 | group << 3 | others
    for owner in range(8)
    for group in range(8)
    for others in range(8)
    if not (group & ~owner or others & ~group)
]
"""Permissions of which the group has no more than the owner, and others no more than the group."""

AMBIGUOUS = [0o310, 0o500, 0o620, 0o764, 0o776]
"""Those of them that are 200, 320, 400, 500 and 510 too, which may be meant."""


@pytest.mark.parametrize("number", [400, 440, 444, 404, 500, 220, 200, 111, 110])
def test_f147_a_decimal_mode_that_looks_octal_is_refused(number):
    """The file shows 0444 and would give 0674; the line has both, in octal."""
    line = (
        f"{number}: the number is decimal, 0o{number:o} in octal; write permissions as "
        f"'0{number}', or as '0{number:o}' if those are meant"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        MODE.parse(number)
    assert MODE.parse(f"0{number}") == int(str(number), 8)
    assert MODE.parse(f"0{number:o}") == number


@pytest.mark.parametrize("number", [600, 640, 644, 660, 664, 666, 700, 750, 755, 770, 777, 7777])
def test_f147_a_decimal_mode_beyond_all_permissions_is_refused(number):
    """The line has the form that permissions should have."""
    with pytest.raises(ValueError, match=f"^{number}: permissions in octal, as in '0660' or 0o660"):
        MODE.parse(number)


@pytest.mark.parametrize("mode", [mode for mode in GRADED if mode not in AMBIGUOUS])
def test_f147_permissions_in_octal_are_what_they_are(mode):
    """A file's 0o660 is the number 432, and is accepted; a text always is."""
    assert MODE.parse(mode) == mode
    assert MODE.parse(f"{mode:04o}") == mode
