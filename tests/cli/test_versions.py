"""The versions that --version prints."""

import sys
from importlib import metadata

import pytest
from twisted.internet.selectreactor import SelectReactor

from netsrv.cli import reactor, versions


@pytest.fixture
def without_reactor(monkeypatch):
    """Remove the reactor of the tests for a while."""
    monkeypatch.delitem(sys.modules, "twisted.internet.reactor")


def test_the_reactor_is_the_one_that_is_installed(monkeypatch):
    """A reactor that a program has installed is named, without Twisted's prefix and suffix."""
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", object.__new__(SelectReactor))
    assert reactor.reactor_name() == "select"


@pytest.mark.parametrize(
    ("module", "name"), [(sys, "uvloop"), (None, "epoll")], ids=["uvloop", "no uvloop"]
)
def test_the_reactor_is_the_one_that_a_server_would_have(
    module, name, without_reactor, monkeypatch
):
    """Before there is one, it is uvloop's where that imports, and Twisted's default else."""
    monkeypatch.setitem(sys.modules, "uvloop", module)
    assert reactor.reactor_name() == name


def test_a_package_that_is_missing_is_reported(monkeypatch):
    """The report has a line for uvloop where it is not installed."""

    def version(package):
        if package == "uvloop":
            raise metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(versions, "version", version)
    assert "uvloop is not installed" in versions.version_report().splitlines()
