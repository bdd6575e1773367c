"""Certificates that all tests of a session share."""

import pytest
from twisted.logger import globalLogPublisher

from tests.tls.authority import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """An authority with a certificate for ``localhost`` and one for a client."""
    made = Authority(tmp_path_factory.mktemp("tls"))
    made.server = made.issue("server", "localhost", "*.example.org", "127.0.0.1")
    made.other = made.issue("other", "other.test")
    made.client = made.issue("client", subject="/O=Example, Inc./CN=alice")
    return made


@pytest.fixture
def tls(authority):
    """The keywords of a listener that serves TLS."""
    certificate, key = authority.server
    return {"tls_certificate": str(certificate), "tls_key": str(key)}


@pytest.fixture
def lines():
    """The lines of the log: pairs of level and text."""
    seen = []

    def observe(event):
        seen.append((event["log_level"].name, event["log_format"].format(**event)))

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)
