"""Settings that describe themselves: their parsers, and what users see of them."""

from enum import Enum

import pytest
from attrs import frozen

from netsrv.settings import (
    BOOLEAN,
    SECONDS,
    TEXT,
    InvalidValues,
    Kind,
    Section,
    choice,
    nearest,
    or_word,
    parse_each,
    parse_integer,
    parse_scalar,
    setting,
    settings_of,
    unknown_key,
    whole_number,
)

SECTION = Section("Examples", "examples")


class Colour(Enum):
    """Two words."""

    RED = "red"
    BLUE = "blue"


@frozen
class Example:
    """A class with a setting of each form."""

    plain: int
    number_of_parts: int = setting(7, SECTION, whole_number(1, 9), "have N parts")
    colour: Colour = setting(Colour.RED, SECTION, choice(Colour), "paint it", details="Twice.")
    pause: float | None = setting(2.5, SECTION, or_word(SECONDS, "none"), "wait S seconds")
    fast: bool = setting(False, SECTION, BOOLEAN, "hurry")
    loud: bool | None = setting(None, SECTION, BOOLEAN, "shout", default_text="on at night")
    word: str | None = setting(None, SECTION, TEXT, "say TEXT", option=None, key=False)


SETTINGS = settings_of(Example)


@pytest.mark.parametrize(
    ("name", "option", "negation", "metavar", "default"),
    [
        ("number_of_parts", "--number-of-parts", None, "N", "7"),
        ("colour", "--colour", None, "red|blue", "red"),
        ("pause", "--pause", None, "S|none", "2.5"),
        ("fast", "--fast", None, "", "off"),
        ("loud", "--loud", "--no-loud", "", "on at night"),
        ("word", None, None, "TEXT", "none"),
    ],
)
def test_a_setting_has_all_that_users_see(name, option, negation, metavar, default):
    """Option, placeholder and default follow from the field, unless it has others."""
    shown = SETTINGS[name]
    assert (shown.option, shown.negation) == (option, negation)
    assert (shown.kind.metavar, shown.default_text) == (metavar, default)


def test_only_settings_are_settings():
    """A field that is made in another way is not one, and the order is that of the fields."""
    assert list(SETTINGS) == ["number_of_parts", "colour", "pause", "fast", "loud", "word"]
    assert Example(1) == Example(1, 7, Colour.RED, 2.5, False, None, None)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("number_of_parts", "9", 9),
        ("colour", "blue", Colour.BLUE),
        ("pause", "none", None),
        ("pause", "3", 3.0),
        ("fast", True, True),
        ("word", "7", "7"),
    ],
)
def test_arguments_of_options_are_texts(name, argument, value):
    """A text that is a number is a number to those settings that are numbers."""
    assert SETTINGS[name].kind.parse_argument(argument) == value


def test_a_kind_may_parse_options_in_its_own_way():
    """Repeatable options get the list of their texts."""
    kind = Kind(parse_integer, parse_option=len, repeatable=True)
    assert (kind.parse(7), kind.parse_argument(["a", "b"])) == (7, 2)


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("-1", -1), ("0.5", 0.5), ("nan", "nan"), ("x", "x"), ("", "")]
)
def test_a_scalar_is_a_number_or_a_text(text, value):
    """Numbers that are not finite are texts, as they are no values for a setting."""
    assert parse_scalar(text) == value


def test_all_items_of_a_list_are_checked():
    """The error has the index, or the key, of each one that is wrong."""
    with pytest.raises(InvalidValues) as caught:
        parse_each(parse_integer, [1, "2", True])
    assert caught.value.errors == [
        ((1,), "'2': a whole number, without quotes"),
        ((2,), "true: a whole number, without quotes"),
    ]
    assert parse_each(tuple, {"a": 1}) == (("a", 1),)


def test_an_unknown_key_gets_a_suggestion_or_all_keys():
    """A near one is suggested; else all that there are."""
    assert unknown_key("serivce", ["service", "tcp"]) == (
        "there is no such key; did you mean service?"
    )
    assert unknown_key("x", ["service", "tcp"], "word") == (
        "there is no such word; there are service, tcp"
    )
    assert unknown_key("x", []) == "there is no such key; there are none"


@pytest.mark.parametrize(
    ("word", "near"),
    [("serivce", "service"), ("TCP", "tcp"), ("Tpc", "tcp"), ("x", None), ("s" * 9999, None)],
)
def test_the_nearest_name_is_like_the_word(word, near):
    """Upper and lower case do not count; a word that is like none has no nearest one."""
    assert nearest(word, ["service", "tcp"]) == near
