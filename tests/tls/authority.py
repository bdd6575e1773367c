"""Certificates for tests, made by openssl: an authority, and what it has issued."""

import os
import shutil
import subprocess
from pathlib import Path

CA_USAGE = "keyUsage=critical,keyCertSign,cRLSign"
EXTENSIONS = ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
"""Extensions that clients of Python 3.13 want: its default contexts are strict."""

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]


def openssl(*arguments):
    """Run openssl; it asks nothing."""
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout


class Authority:
    """An authority in a folder; it issues certificates of one day."""

    def __init__(self, folder, name="ca"):
        self.folder = folder = Path(folder)
        folder.mkdir(exist_ok=True)
        self.file = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._serial = 0
        subject = ["-subj", f"/CN={name}", "-days", "2", "-addext", CA_USAGE]
        openssl("req", "-x509", *CURVE, "-keyout", self._key, "-out", self.file, *subject)

    def issue(self, name, *names, days=1, subject="", extensions=(), new_key=CURVE, key=None):
        """Return the files of a certificate and its key; *names* are its subjectAltName.

        *key* is the file of a key that there is already.
        """
        certificate, request = self.folder / f"{name}.pem", self.folder / f"{name}.csr"
        keys = ["-new", "-key", key] if key else [*new_key, "-keyout", self.folder / f"{name}.key"]
        key = key or self.folder / f"{name}.key"
        openssl("req", *keys, "-out", request, "-subj", subject or f"/CN={name}")
        lines = [*extensions, *EXTENSIONS]
        if names:
            kinds = ("IP" if entry[0].isdigit() else "DNS" for entry in names)
            pairs = ",".join(f"{kind}:{entry}" for kind, entry in zip(kinds, names, strict=True))
            lines.append(f"subjectAltName={pairs}")
        extension_file = self.folder / f"{name}.ext"
        extension_file.write_text("\n".join(lines))
        self._serial += 1
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key),
            *("-days", days, "-set_serial", self._serial, "-extfile", extension_file),
            *("-out", certificate),
        )
        key.chmod(0o600)
        return certificate, key

    def revoke(self, *certificates):
        """Return the file of a revocation list with these certificates."""
        folder = self.folder
        index = folder / "index.txt"
        index.write_text("")
        settings = folder / "ca.cnf"
        settings.write_text(
            "[ca]\ndefault_ca=own\n[own]\ndefault_md=sha256\ndefault_crl_days=1\n"
            f"database={index}\n"
        )
        own = ["-config", settings, "-cert", self.file, "-keyfile", self._key]
        for certificate in certificates:
            openssl("ca", *own, "-revoke", certificate)
        listed = folder / "crl.pem"
        openssl("ca", *own, "-gencrl", "-out", listed)
        return listed


def replace_files(pair, folder):
    """Replace the certificate and the key in a folder."""
    for file, name in zip(pair, ("a.pem", "a.key"), strict=True):
        shutil.copy(file, f"{folder}/new")
        os.replace(f"{folder}/new", f"{folder}/{name}")
