"""Settings as users write them, those of a third party's service included."""

from attrs import field, frozen

from netsrv.config.showing import plain_value, show_plain


@frozen
class Own:
    """The settings of a third party's service."""

    words: frozenset[str] = frozenset({"b", "a"})
    empty: frozenset[str] = frozenset()
    table: dict[str, int] = field(factory=lambda: {"one": 1})
    token: str = field(default="secret", repr=False)


def test_a_services_own_settings_are_shown_in_tomls_types():
    """A set is a list, whatever is in it; what the class hides stays hidden."""
    assert plain_value(Own()) == {"words": ["a", "b"], "empty": [], "table": {"one": 1}}


def test_a_value_that_cannot_be_shown_is_its_error():
    """A third party's class may raise, and the report goes on."""

    class Broken:
        def __str__(self):
            raise ValueError("no text")

    assert plain_value(Broken()) == "ValueError: no text"


def test_plain_values_have_texts():
    """Whole seconds have no fraction, and nothing is ``none``."""
    shown = [show_plain(value) for value in (None, True, 60.0, 2.5, [], ["a", 1])]
    assert shown == ["none", "true", "60", "2.5", "none", "a, 1"]
