"""Certificates: what is found in files, and what is said of those that cannot be used."""

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time

import pytest

from netsrv.tls.errors import TLSConfigurationError
from netsrv.tls.settings import TLSSettings
from netsrv.tls.store import CertificateSet, CertificateStore
from tests.tls.authority import Authority, openssl


def settings_of(certificate, key=None, **others):
    """Return settings of one certificate."""
    key = None if key is None else (str(key),)
    return TLSSettings(certificate=(str(certificate),), key=key, **others)


def load(*files, **others):
    """Load a certificate."""
    return CertificateSet(settings_of(*files, **others))


def lines_of(*files, **others):
    """Return the lines about a certificate that cannot be used."""
    with pytest.raises(TLSConfigurationError) as caught:
        load(*files, **others)
    return list(caught.value.lines)


def test_a_certificate_is_known_by_its_names_and_dates(authority):
    """Without a library for certificates."""
    [certificate] = load(*authority.server).certificates
    assert certificate.names == ("localhost", "*.example.org", "127.0.0.1")
    assert certificate.subject == "CN=server"
    assert certificate.not_before <= time.time() < certificate.not_after < time.time() + 86500
    assert certificate.warnings == ()


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa:2048"])
def test_keys_of_any_kind_are_served(algorithm, tmp_path):
    """Ed25519 and RSA as elliptic curves."""
    made = Authority(tmp_path)
    files = made.issue("odd", "odd.test", new_key=["-newkey", algorithm, "-noenc"])
    [certificate] = load(*files).certificates
    assert certificate.names == ("odd.test",)


def test_alternative_names_of_other_kinds_are_no_names(authority):
    """No client asks for the URI of a workload by SNI."""
    names = "subjectAltName=URI:spiffe://example.org/web,DNS:web.test"
    files = authority.issue("uri", extensions=(names,))
    assert load(*files).certificates[0].names == ("web.test",)


def test_a_key_may_be_in_the_file_of_the_certificate(authority, tmp_path):
    """In any order."""
    certificate, key = authority.server
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    both.chmod(0o600)
    assert load(both).certificates[0].names[0] == "localhost"


def test_f78_what_is_missing_is_named(authority, tmp_path):
    """One line each: the file, and what would be right."""
    certificate, key = authority.server
    missing, folder = tmp_path / "missing.pem", tmp_path / "folder"
    folder.mkdir()
    assert lines_of(missing) == [f"certificate {missing}: No such file or directory"]
    assert lines_of(certificate, missing) == [f"key {missing}: No such file or directory"]
    assert lines_of(key) == [f"certificate {key}: has no certificate in PEM form"]
    assert lines_of(certificate) == [
        f"key {certificate}: has no key in PEM form; name the file of the key, or add the key to "
        "this one"
    ]
    assert lines_of(certificate, folder) == [f"key {folder}: is a directory, not a file"]
    assert lines_of(folder) == [
        f"certificate {folder}: has no certificate: a file like name.pem, with the key in it or in "
        "name.key, or a folder with fullchain.pem and privkey.pem"
    ]
    assert lines_of(folder, key) == [
        f"certificate {folder}: a directory has the keys beside the certificates; leave out the key"
    ]


@pytest.mark.parametrize("kind", ["other key", "other kind of key"])
def test_f78_a_key_that_does_not_fit_is_named(kind, authority, tmp_path):
    """Also if it is of another kind."""
    key = authority.other[1]
    if kind != "other key":
        key = tmp_path / "other.key"
        openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    assert lines_of(authority.server[0], key) == [f"key {key}: does not fit the certificate"]


def test_f78_broken_files_are_named(authority, tmp_path):
    """The one of the two that is broken."""
    certificate, key = authority.server
    broken, broken_key = tmp_path / "broken.pem", tmp_path / "broken.key"
    text = certificate.read_text()
    broken.write_text(text.replace(text.splitlines()[2], "AAAA"))
    text = key.read_text()
    broken_key.write_text(text.replace(text.splitlines()[1], "AAAA"))
    assert lines_of(broken, key) == [f"certificate {broken}: cannot be decoded"]
    assert lines_of(certificate, broken_key) == [f"key {broken_key}: cannot be decoded"]


def test_f78_a_binary_form_is_to_be_converted(authority, tmp_path):
    """DER and PKCS#12: the line names the programs that convert them."""
    certificate, key = authority.server
    der = tmp_path / "server.der"
    openssl("x509", "-in", certificate, "-outform", "der", "-out", der)
    assert lines_of(der, key) == [
        f"certificate {der}: is not in PEM form; openssl x509, pkey or pkcs12 can convert it"
    ]


def test_f78_a_key_that_is_too_short_is_named(authority):
    """OpenSSL refuses RSA keys of less than 2048 bits."""
    short = ["-newkey", "rsa:1024", "-noenc"]
    certificate, key = authority.issue("short", "short.test", new_key=short)
    assert lines_of(certificate, key) == [f"key {key}: is shorter than OpenSSL allows"]


def test_an_encrypted_key_never_asks(authority, tmp_path):
    """Neither in PKCS#8 nor in the older form."""
    certificate, key = authority.server
    encrypted = tmp_path / "encrypted.key"
    for form in ([], ["-traditional"]):
        openssl("pkey", "-in", key, "-aes128", "-passout", "pass:x", "-out", encrypted, *form)
        assert lines_of(certificate, encrypted) == [
            f"key {encrypted}: is encrypted; write it without a passphrase, as in openssl pkey "
            "-in OLD -out NEW"
        ]


def test_a_chain_begins_with_the_servers_certificate(authority, tmp_path):
    """Otherwise the key fits none that clients get; the line says which one it fits."""
    certificate, key = authority.server
    chain = tmp_path / "chain.pem"
    chain.write_text(authority.file.read_text() + certificate.read_text())
    assert lines_of(chain, key) == [
        f"key {key}: fits certificate 2 of {chain}; the server's own certificate must be the first"
    ]


def test_a_wrong_key_is_named_without_a_folder_for_temporary_files(
    authority, tmp_path, monkeypatch
):
    """Where no file can be written; the line does not say which certificate it fits."""
    certificate, key = authority.server
    chain = tmp_path / "chain.pem"
    chain.write_text(authority.file.read_text() + certificate.read_text())

    def fail(*_arguments, **_keywords):
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", fail)
    assert lines_of(chain, key) == [f"key {key}: does not fit the certificate"]


def test_a_chain_out_of_order_is_a_warning(authority, tmp_path):
    """Most clients find their way."""
    certificate, key = authority.server
    chain = tmp_path / "chain.pem"
    chain.write_text(certificate.read_text() + authority.file.read_text())
    [loaded] = load(chain, key).certificates
    assert loaded.warnings == ()
    stranger = Authority(tmp_path, "stranger")
    chain.write_text(certificate.read_text() + stranger.file.read_text())
    [loaded] = load(chain, key).certificates
    assert loaded.warnings == (
        f"certificate {chain}: certificate 2 has not issued the one before it; order the chain "
        "upwards",
    )


def test_f80_a_key_that_others_can_read_is_a_warning(authority, tmp_path):
    """The group may read it, as on Debian."""
    key = tmp_path / "open.key"
    shutil.copy(authority.server[1], key)
    key.chmod(0o640)
    assert load(authority.server[0], key).certificates[0].warnings == ()
    key.chmod(0o644)
    [loaded] = load(authority.server[0], key).certificates
    assert loaded.warnings == (f"key {key}: every user can read it (mode 0644)",)


def test_a_certificate_outside_its_dates_is_a_warning(authority):
    """The server starts all the same: clients that do not verify are served."""
    loaded = load(*authority.server)
    [certificate] = loaded.certificates
    assert loaded.warnings_at(time.time()) == []
    [line] = loaded.warnings_at(certificate.not_after)
    assert line.startswith(f"certificate {authority.server[0]}: has expired on 20")
    [line] = loaded.warnings_at(certificate.not_before - 1)
    assert line.startswith(f"certificate {authority.server[0]}: is not valid before 20")


def test_a_certificate_that_is_none_for_servers_is_refused(tmp_path):
    """No client would accept it."""
    made = Authority(tmp_path)
    files = made.issue("mail", "mail.test", extensions=["extendedKeyUsage=emailProtection"])
    assert lines_of(*files) == [
        f"certificate {files[0]}: no client can use it: unsuitable certificate purpose"
    ]


def test_settings_that_openssl_refuses(authority):
    """Each with its name."""
    newer = "only the ssl module of Python 3.15 can set them"
    assert lines_of(*authority.server, ciphers="NONE-SUCH") == [
        "ciphers 'NONE-SUCH': OpenSSL knows no such cipher suite"
    ]
    assert lines_of(*authority.server, ciphers="ECDHE-RSA-AES128-GCM-SHA256") == [
        f"certificate {authority.server[0]}: no client can use it: no shared cipher"
    ]
    if not hasattr(ssl.SSLContext, "set_groups"):
        assert lines_of(*authority.server, groups="X25519") == [f"groups: {newer}"]
        assert lines_of(*authority.server, ciphersuites="X") == [f"ciphersuites: {newer}"]


def test_files_for_client_certificates_are_read(authority, tmp_path):
    """An authority or a list that is missing is an error at the start."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    assert lines_of(*authority.server, client_ca=f"{tmp_path}/no") == [
        f"client_ca {tmp_path}/no: No such file or directory"
    ]
    assert lines_of(*authority.server, client_ca=str(empty)) == [
        f"client_ca {empty}: has no certificate in PEM form"
    ]
    assert lines_of(*authority.server, client_ca=str(authority.file), crl=str(empty)) == [
        f"crl {empty}: has no revocation list in PEM form"
    ]


# Directories and names


@pytest.fixture
def folder(authority, tmp_path):
    """A directory with a certificate in each form."""
    for certificate, key in (authority.server, authority.other):
        shutil.copy(certificate, tmp_path / f"{certificate.stem}.crt")
        shutil.copy(key, tmp_path / f"{certificate.stem}.key")
    certbot = tmp_path / "www.example.net"
    certbot.mkdir()
    chain, key = authority.issue("net", "www.example.net")
    shutil.copy(chain, certbot / "fullchain.pem")
    shutil.copy(key, certbot / "privkey.pem")
    (tmp_path / "README").write_text("no certificate")
    shutil.copy(authority.file, tmp_path / "authority.pem")  # it has no key
    return tmp_path


def test_a_directory_has_a_certificate_for_each_name(folder):
    """Pairs of files, files with both, and folders as certbot's; the first is the default."""
    loaded = load(folder)
    assert [one.name for one in loaded.certificates] == [
        "other.test",
        "localhost",
        "www.example.net",
    ]
    contexts = {one.name: one.context for one in loaded.certificates}
    assert loaded.context is contexts["other.test"]
    assert loaded.context_for("www.example.net") is contexts["www.example.net"]
    assert loaded.context_for("a.example.org") is contexts["localhost"]
    for name in ("a.b.example.org", "example.org", "nothing", "", ".", "*"):
        assert loaded.context_for(name) is None


def test_all_errors_of_a_directory_come_at_once(folder):
    """A line for each file."""
    (folder / "server.key").write_text((folder / "other.key").read_text())
    (folder / "other.key").write_text("-----BEGIN PRIVATE KEY-----")
    [first, second] = lines_of(folder)
    assert first.startswith(f"key {folder}/other.key: ")
    assert second == f"key {folder}/server.key: does not fit the certificate"


def test_a_list_has_a_key_for_each_certificate(authority):
    """Or the keys are in the files of the certificates."""
    pairs = authority.server, authority.other
    certificates, keys = (tuple(map(str, files)) for files in zip(*pairs, strict=True))
    loaded = CertificateSet(TLSSettings(certificate=certificates, key=keys))
    assert [one.name for one in loaded.certificates] == ["localhost", "other.test"]
    with pytest.raises(TLSConfigurationError) as caught:
        CertificateSet(TLSSettings(certificate=certificates, key=keys[:1]))
    assert caught.value.lines == ("2 certificates, but 1 key: give each certificate its key",)


# Renewal


@pytest.fixture
def store(authority, tmp_path):
    """A store on copies of the files; `replace` replaces them."""
    for file, name in zip(authority.server, ("a.pem", "a.key"), strict=True):
        shutil.copy(file, tmp_path / name)
    return CertificateStore(load(tmp_path / "a.pem", tmp_path / "a.key"))


def copy_to(store, files):
    """Replace the files of a store, as a renewal does: in two steps."""
    [certificate], [key] = store.settings.certificate, store.settings.key
    for source, target in zip(files, (certificate, key), strict=True):
        shutil.copy(source, f"{target}.new")
        os.replace(f"{target}.new", target)


def test_a_change_of_a_file_is_seen_without_reading_it(store, authority):
    """By its inode, size and time."""
    assert not store.changed()
    copy_to(store, authority.other)
    assert store.changed()
    store.replace(store.renew(time.time()))
    assert not store.changed()
    assert store.certificates()[0][0] == "other.test"
    assert store.renewals == {"success": 1}


def test_a_change_is_seen_beside_a_folder_that_cannot_be_read(folder, authority, monkeypatch):
    """As lost+found, which belongs to root."""
    closed = folder / "lost+found"
    closed.mkdir()
    scan = os.scandir

    def refuse(path):
        if path == str(closed):
            raise PermissionError
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    store = CertificateStore(load(folder))
    (folder / "server.crt").write_bytes(authority.issue("next", "localhost")[0].read_bytes())
    assert store.changed()


def test_g15_a_renewal_with_the_same_key_is_seen(store, authority):
    """The certificate is another, though the key is not."""
    before = store.certificates()
    key = authority.server[1]
    files = authority.issue("again", "again.test", key=key)
    copy_to(store, files)
    assert store.changed()
    store.replace(store.renew(time.time()))
    assert store.certificates() != before


def test_f79_a_bad_renewal_keeps_the_old_certificates(store, authority):
    """It is counted, and not tried again until a file has changed."""
    context = store.current.context
    copy_to(store, (authority.other[0], authority.server[1]))
    with pytest.raises(TLSConfigurationError, match="does not fit") as caught:
        store.renew(time.time())
    store.keep(caught.value)
    assert store.current.context is context
    assert store.renewals == {"failure": 1}
    assert "does not fit" in store.error
    assert not store.changed()
    copy_to(store, authority.other)
    assert store.changed()
    store.replace(store.renew(time.time()))
    assert store.error == ""


def test_f79_a_renewal_that_is_not_valid_keeps_one_that_is(store, authority):
    """One that has expired is no renewal; but better than none if the old one has, too."""
    copy_to(store, authority.issue("old", "localhost", days=0))
    with pytest.raises(TLSConfigurationError, match="has expired on"):
        store.renew(time.time() + 1)
    both_expired = time.time() + 3 * 86400
    assert store.renew(both_expired).certificates[0].subject == "CN=old"


def test_no_library_for_certificates_is_needed(authority):
    """Python's own ssl is enough: neither cryptography nor pyOpenSSL can be imported here."""
    certificate, key = authority.server
    program = (
        "import sys; sys.modules |= dict.fromkeys(['cryptography', 'OpenSSL', '_cffi_backend']); "
        "from netsrv.testing import MemoryServer; "
        f"s = MemoryServer('echo', tls_certificate={str(certificate)!r}, tls_key={str(key)!r}); "
        "print(s.info()['listeners'][0]['certificates'][0]['name'])"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.stdout == "localhost\n", run.stderr
