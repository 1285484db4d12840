"""Certificates for tests.

They are made by the command `openssl`, so that every build of Python can run these tests: there are
no wheels of `cryptography` for the free-threaded 3.13.
"""

import datetime
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

DAY = datetime.timedelta(days=1)

_CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
[ca]
default_ca = authority
[authority]
new_certs_dir = {folder}
database = {folder}/index.txt
certificate = {file}
private_key = {folder}/authority.key
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {hosts}
"""

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def _openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _stamp(moment):
    return moment.strftime("%y%m%d%H%M%SZ")


class Authority:
    """One that signs certificates, written to files in a folder."""

    def __init__(self, folder, name="authority"):
        if shutil.which("openssl") is None:
            pytest.skip("no openssl command")
        self.folder = Path(folder)
        self.file = str(self.folder / f"{name}.pem")
        self._own = self.folder / f"{name}.d"
        self._own.mkdir(exist_ok=True)
        key = ("-nodes", "-keyout", str(self._own / "authority.key"), "-out", self.file)
        config = ("-config", self._configure(), "-extensions", "root", "-subj", f"/CN={name}")
        _openssl("req", "-x509", "-new", *_NEW_KEY, *key, *config, "-days", "30")

    def _configure(self, hosts=("localhost",), revoked=()):
        """The file of a configuration; `revoked`: lines of what it has signed before."""
        names = ", ".join(f"DNS:{host}" for host in hosts)
        (self._own / "index.txt").write_text("".join(f"{line}\n" for line in revoked))
        file = self._own / "openssl.cnf"
        file.write_text(_CONFIGURATION.format(folder=self._own, file=self.file, hosts=names))
        return str(file)

    def issue(self, *hosts, name=None, ends=30 * DAY, password=None, together=False):
        """The files of a new certificate and its key; `together`: of one file."""
        name = name or hosts[0]
        file, key, asked = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        lock = ("-passout", f"pass:{password}") if password else ("-nodes",)
        config = ("-config", self._configure(hosts))
        files = ("-keyout", str(key), "-out", str(asked))
        _openssl("req", "-new", *_NEW_KEY, *lock, *files, *config, "-subj", f"/CN={name}")
        now = datetime.datetime.now(datetime.UTC)
        times = ("-startdate", _stamp(now - 60 * DAY), "-enddate", _stamp(now + ends))
        files = ("-in", str(asked), "-out", str(file))
        _openssl("ca", "-batch", "-notext", *config, "-extensions", "leaf", *times, *files)
        if together:
            both = self.folder / f"{name}.both.pem"
            both.write_bytes(file.read_bytes() + key.read_bytes())
            return str(both)
        return str(file), str(key)

    def revoke(self, *files):
        """The file of a list that revokes certificates."""
        now = datetime.datetime.now(datetime.UTC)
        lines = []
        for file in files:
            serial = _openssl("x509", "-in", file, "-noout", "-serial").strip().partition("=")[2]
            lines.append(f"R\t{_stamp(now + DAY)}\t{_stamp(now)}\t{serial}\tunknown\t/CN=revoked")
        config = ("-config", self._configure(revoked=lines))
        out = str(self.folder / "revoked.pem")
        _openssl("ca", "-gencrl", *config, "-crldays", "1", "-out", out)
        return out

    def context(self, *pair, alpn=None, low=None, high=None):
        """A client's context that trusts us, with a certificate of its own if one is given."""
        context = ssl.create_default_context(cafile=self.file)
        if pair:
            context.load_cert_chain(*pair)
        if alpn:
            context.set_alpn_protocols(alpn)
        if low:
            context.minimum_version = low
        if high:
            context.maximum_version = high
        return context
