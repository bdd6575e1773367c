"""Certificates that are renewed, and settings of TLS that change, while a server runs."""

import pytest
from attrs import evolve
from twisted.internet.task import Clock

from netsrv.config.model import Configuration, ConfigurationError
from netsrv.server.renewals import Renewals
from netsrv.testing import MemoryServer
from netsrv.tls.settings import TLSSettings
from netsrv.tls.store import CertificateSet, CertificateStore
from tests.tls.authority import replace_files
from tests.tls.clients import TLSClient, client_context, connect

DAY = 86400


@pytest.fixture
def files(authority, tmp_path):
    """Copies of a certificate and its key, as keywords of a listener."""
    replace_files(authority.server, tmp_path)
    return {"tls_certificate": f"{tmp_path}/a.pem", "tls_key": f"{tmp_path}/a.key"}


@pytest.fixture
def context(authority):
    """The context of a client that takes any name."""
    context = client_context(authority)
    context.check_hostname = False
    return context


def subject_of(client):
    """Return the name of the certificate that a client has got."""
    return client.ssl.getpeercert()["subject"][0][0][1]


def test_new_files_are_in_use_within_seconds(files, authority, context, tmp_path, lines):
    """Without a signal: new connections get the new certificate, live ones go on."""
    server = MemoryServer("echo", **files)
    before = connect(server, context)
    replace_files(authority.other, tmp_path)
    server.advance(6)
    assert subject_of(connect(server, context)) == "other"
    assert ("info", f"Renewed 1 certificate: {tmp_path}/a.pem") in lines
    before.write(b"on")
    assert before.read() == b"on"
    [facts] = server.info()["listeners"]
    assert facts["certificates"][0]["name"] == "other.test"
    assert facts["renewals"] == {"success": 1}


def test_a_handshake_goes_on_with_the_certificate_with_which_it_began(files, authority, tmp_path):
    """A renewal in the midst of it changes nothing."""
    context = client_context(authority)
    server = MemoryServer("echo", **files)
    connection = server.connect(keep_open=True)
    client = TLSClient(connection, context)
    plain, sent = connection.send, []

    def send_and_renew(data):
        sent.append(data)
        plain(data[:50])
        if len(sent) == 1:
            replace_files(authority.other, tmp_path)
            server.server.listeners[0].certificates.replace(
                server.server.listeners[0].certificates.renew(0)
            )
        plain(data[50:])

    connection.send = send_and_renew
    client.shake_hands()
    assert client.ssl.getpeercert()["subject"][0][0][1] == "server"


def test_f79_a_bad_renewal_is_told_once(files, authority, context, tmp_path, lines):
    """The old certificate stays in use; the lines name the file."""
    server = MemoryServer("echo", **files)
    replace_files((authority.other[0], authority.server[1]), tmp_path)
    server.advance(60)
    errors = [text for level, text in lines if level == "error"]
    assert errors == [
        f"key {tmp_path}/a.key: does not fit the certificate",
        "The certificates are not renewed: those of before stay in use",
    ]
    assert subject_of(connect(server, context)) == "server"
    assert server.info()["listeners"][0]["renewals"] == {"failure": 1}
    replace_files(authority.other, tmp_path)
    server.advance(6)
    assert subject_of(connect(server, context)) == "other"


def test_a_reload_reads_the_files_again(files, authority, context, tmp_path):
    """At once, as after SIGHUP."""
    server = MemoryServer("echo", **files)
    replace_files(authority.other, tmp_path)
    server.server.reload(server.server.configuration)
    assert subject_of(connect(server, context)) == "other"


def test_a_reload_changes_the_settings_of_tls(files, authority, context, tls):
    """Another certificate, other limits of the handshake; the socket stays open."""
    server = MemoryServer("echo", **files)
    [settings] = server.server.configuration.listeners
    certificate, key = (str(file) for file in authority.other)
    other = evolve(settings.tls, certificate=(certificate,), key=(key,), handshake_timeout=1.0)
    before = connect(server, context)
    server.server.reload(Configuration((evolve(settings, tls=other),)))
    assert subject_of(connect(server, context)) == "other"
    stalled = server.connect()
    server.advance(1.2)
    assert stalled.close_kind == "closed"
    before.write(b"on")
    assert before.read() == b"on"


def test_a_reload_begins_and_ends_tls(files, context):
    """On the same socket; live connections stay as they are."""
    server = MemoryServer("echo", **files)
    [settings] = server.server.configuration.listeners
    encrypted = connect(server, context)
    server.server.reload(Configuration((evolve(settings, tls=TLSSettings()),)))
    plain = server.connect()
    plain.send(b"plain")
    assert plain.read() == b"plain"
    server.server.reload(Configuration((settings,)))
    assert subject_of(connect(server, context)) == "server"
    encrypted.write(b"on")
    plain.send(b"on")
    assert (encrypted.read(), plain.read()) == (b"on", b"on")


def test_f79_a_reload_with_bad_settings_changes_nothing(files, context, tmp_path):
    """It is refused as a whole, with the line that a start would print."""
    server = MemoryServer("echo", **files)
    [settings] = server.server.configuration.listeners
    missing = evolve(settings.tls, certificate=(f"{tmp_path}/missing.pem",))
    with pytest.raises(ConfigurationError, match=r"missing\.pem: No such file or directory"):
        server.server.reload(Configuration((evolve(settings, tls=missing, backlog=7),)))
    assert server.server.configuration.listeners == (settings,)
    assert subject_of(connect(server, context)) == "server"


def test_an_expiry_is_in_the_log_from_seven_days_before(authority, lines):
    """Once a day, and when it has expired."""
    certificate, key = map(str, authority.server)
    settings = TLSSettings(certificate=(certificate,), key=(key,))
    store = CertificateStore(CertificateSet(settings))
    [loaded] = store.current.certificates
    clock = Clock()
    renewals = Renewals(
        clock, lambda: [store], lambda: loaded.not_after - 8 * DAY + clock.seconds()
    )
    renewals.start()
    told = []
    for _ in range(9 * 24):
        clock.pump([5.0, 3595.0])
        told += [text for level, text in lines if level == "warn"]
        lines.clear()
    renewals.stop()
    until = loaded.expiry
    expires = f"certificate {certificate} (localhost) expires on {until}"
    expired = f"certificate {certificate} (localhost) has expired on {until}"
    assert told == [expires] * 7 + [expired] * 2
    assert not clock.getDelayedCalls()
