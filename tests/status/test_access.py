"""Which requests are answered: Host, requests of other sites, tokens."""

from base64 import b64encode

import pytest

from netsrv.status.access import AccessRules, host_name, read_token

TOKEN = "0123456789abcdef"


def status_of(rules, **headers):
    """Return the status of HTTP with which a request is refused; None if it is answered."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def values(name):
        value = named.get(name, [])
        return value if isinstance(value, list) else [value]

    refusal = rules.refuse(values)
    return refusal and refusal.status


@pytest.mark.parametrize(
    "host",
    ["localhost:8423", "LOCALHOST", "a.localhost", "127.0.0.1:8423", "[::1]:8423", "10.1.2.3", []],
)
def test_f108_a_local_name_or_a_number_is_answered(host):
    """No other site can have one; an old client sends no Host."""
    assert status_of(AccessRules(), Host=host) is None


@pytest.mark.parametrize(
    "host", ["evil.example:8423", "localhost.evil.example", "127.0.0.1.evil.example", "", "[x]"]
)
def test_f108_another_name_is_refused(host):
    """The page of a site whose name leads to loopback (DNS rebinding) reads nothing."""
    assert status_of(AccessRules(), Host=host) == 403


def test_f108_a_name_of_the_configuration_is_answered():
    """A proxy in front may use it; on a unix socket any name is right."""
    assert status_of(AccessRules(names=("status.lan",)), Host="Status.LAN.:80") is None
    assert status_of(AccessRules(any_name=True), Host="any.example") is None
    assert status_of(AccessRules(), Host=["localhost", "localhost"]) == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_Fetch_Site": "same-origin"}, None),
        ({"Sec_Fetch_Site": "none"}, None),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"}, 403),
        (
            {
                "Sec_Fetch_Site": "cross-site",
                "Sec_Fetch_Mode": "navigate",
                "Sec_Fetch_Dest": "document",
            },
            None,
        ),
        (
            {
                "Sec_Fetch_Site": "cross-site",
                "Sec_Fetch_Mode": "navigate",
                "Sec_Fetch_Dest": "iframe",
            },
            403,
        ),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8423"}, None),
    ],
)
def test_f108_a_request_of_another_site_is_refused(headers, status):
    """A link to the page may be followed."""
    assert status_of(AccessRules(), Host="localhost:8423", **headers) == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", None),
        (f"bearer  {TOKEN} ", None),
        (f"Basic {b64encode(b'any:' + TOKEN.encode()).decode()}", None),
        ([], 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer", 401),
        (f"Digest {TOKEN}", 401),
        ("Basic !!!", 401),
        (f"Basic {b64encode(b'any' + TOKEN.encode()).decode()}", 401),
        ("Basic //79", 401),
        ([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], 401),
        ("Bearer \u00e9", 401),
    ],
)
def test_f108_a_token_is_needed_if_there_is_one(authorization, status):
    """It is a bearer token, or the password of basic authentication."""
    rules = AccessRules(TOKEN)
    assert status_of(rules, Host="any.example", Authorization=authorization) == status


def test_a_host_is_a_name_without_its_port():
    """IPv6 addresses are in brackets."""
    assert [host_name(host) for host in ("A.b:1", "[::1]:8423", "x.", "[::1")] == [
        "a.b",
        "::1",
        "x",
        "::1",
    ]


def test_a_token_comes_from_a_file_or_the_environment(tmp_path):
    """The file wins; its first line counts."""
    path = tmp_path / "token"
    path.write_text(f"\n {TOKEN}\nmore\n")
    environ = {"NETSRV_STATUS_TOKEN": "fedcba9876543210"}
    assert read_token(str(path), environ) == TOKEN
    assert read_token(None, environ) == "fedcba9876543210"
    assert read_token(None, {"NETSRV_STATUS_TOKEN": " "}) is None


@pytest.mark.parametrize("text", ["", "short", "0123456789\x0012345", "01234567890\u00e912345"])
def test_a_weak_token_is_refused(text, tmp_path):
    """The line names its origin, and not the token."""
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"token: .*16 printable ASCII characters") as caught:
        read_token(str(path), {})
    assert not text or text not in str(caught.value)
    with pytest.raises(ValueError, match="no: No such file"):
        read_token("no", {})
    with pytest.raises(ValueError, match="NETSRV_STATUS_TOKEN: "):
        read_token(None, {"NETSRV_STATUS_TOKEN": "short"})
