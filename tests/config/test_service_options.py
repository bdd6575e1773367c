"""Settings of services on the command line."""

from pathlib import Path

import pytest
from attrs import frozen

from netsrv.config.command_line import from_command_line
from netsrv.config.model import ConfigurationError
from netsrv.config.service_options import plain_settings
from netsrv.registry import find_services

UPSTREAM = "forward.upstream=127.0.0.1:80"


@frozen
class Settings:
    """Settings of each type that a service may have."""

    text: str = ""
    number: int = 0
    seconds: float = 0.0
    limit: float | None = None
    flag: bool = False
    file: Path = Path()
    words: tuple[str, ...] = ()
    numbers: list[int] | None = None


def read(*texts, listeners=(("tcp", "forward=9000"), ("udp", "forward=9000"), ("tcp", "echo=7"))):
    """Return the settings of the listeners' services."""
    configuration = from_command_line(listeners, service_settings=texts, registry=find_services())
    return [listener.settings for listener in configuration.listeners]


def test_a_setting_is_that_of_each_listener_with_the_service():
    """The other services have none."""
    stream, datagrams, echo = read(UPSTREAM, "forward.connect_timeout=2.5", "forward.max_flows=7")
    assert stream == datagrams
    assert (stream.upstream, stream.connect_timeout, stream.max_flows) == ("127.0.0.1:80", 2.5, 7)
    assert echo is None


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("text", "12", "12"),
        ("text", "a=b", "a=b"),
        ("number", "-12", -12),
        ("number", "1.5", "1.5"),
        ("number", "many", "many"),
        ("seconds", "2", 2),
        ("seconds", "2.5", 2.5),
        ("limit", "2.5", 2.5),
        ("flag", "true", True),
        ("flag", "False", False),
        ("flag", "perhaps", "perhaps"),
        ("file", "quotes.txt", "quotes.txt"),
        ("words", "a, b", ["a", "b"]),
        ("unknown", "x", "x"),
    ],
)
def test_a_text_stands_for_what_the_type_of_its_key_says(key, text, value):
    """What does not fit stays text, and is an error of the service's class."""
    [converted] = plain_settings({key: text}, Settings).values()
    assert (type(converted), converted) == (type(value), value)


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (["forward"], "--setting 'forward': write SERVICE.KEY=VALUE, as in qotd.file=quotes.txt"),
        ([UPSTREAM, UPSTREAM], "--setting forward.upstream is given twice"),
        (
            [UPSTREAM, "forward.upstrem=x"],
            "--setting forward.upstrem: there is no such key; did you mean upstream?",
        ),
        (["forward.max_flows=7"], "--setting forward.upstream is missing"),
        ([UPSTREAM, "forward.max_flows=x"], "--setting forward.max_flows 'x': a whole number"),
        (
            [UPSTREAM, "qotd.file=x"],
            "--setting qotd: there is no such listener on the command line",
        ),
        ([UPSTREAM, "echo.x=1"], "--setting echo: the service 'echo' has no settings"),
    ],
)
def test_an_error_names_the_setting(texts, error):
    """One line for each mistake."""
    with pytest.raises(ConfigurationError) as caught:
        read(*texts)
    assert all(line.startswith(error) for line in caught.value.lines)
