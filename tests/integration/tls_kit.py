"""Certificates for the tests of TLS, and clients of Python's own ssl module."""

import contextlib
import datetime
import socket
import ssl

import pytest

pytest.importorskip("cryptography")  # there are no wheels for free-threaded 3.13

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from server_kit import TIMEOUT, read_until

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)

DAY = datetime.timedelta(days=1)


class Authority:
    """One that signs certificates, written to files in a folder."""

    def __init__(self, folder, name="authority"):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), ca=True)
        self.file = self._write(f"{name}.pem", pem(self.certificate))

    def _write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def _sign(self, subject, public_key, *, hosts=(), ends=30 * DAY, ca=False, serial=None):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(now - 60 * DAY)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if ca:
            usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
            builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, *hosts, name=None, ends=30 * DAY, password=None, together=False):
        """The files of a new certificate and its key; `together`: of one file."""
        name = name or hosts[0]
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), hosts=hosts, ends=ends)
        cipher = (
            serialization.BestAvailableEncryption(password.encode())
            if password
            else serialization.NoEncryption()
        )
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher
        )
        if together:
            return self._write(f"{name}.both.pem", pem(certificate) + key_pem)
        return self._write(f"{name}.pem", pem(certificate)), self._write(f"{name}.key", key_pem)

    def revoke(self, *files):
        """The file of a list that revokes certificates."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now - DAY)
            .next_update(now + DAY)
        )
        for file in files:
            with open(file, "rb") as f:  # noqa: PTH123
                serial = x509.load_pem_x509_certificate(f.read()).serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(one.build())
        crl = builder.sign(self.key, hashes.SHA256())
        return self._write("revoked.pem", crl.public_bytes(serialization.Encoding.PEM))

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


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def connected(server, context, host="localhost", **options):
    """A connection on which the handshake is done."""
    with (
        socket.create_connection(server.address, timeout=TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host, **options) as sock,
    ):
        yield sock


def get(server, context, path="/", host="localhost"):
    """The body of a response, which must be whole."""
    with connected(server, context, host) as sock:
        return ask(sock, path)


def ask(sock, path="/", *fields, method="GET", body=b""):
    """Send a request on a connection and return the body of the response."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *fields]
    if body:
        lines.append(f"content-length: {len(body)}")
    sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return answer(sock)


def answer(sock):
    data = read_until(sock, b"\r\n\r\n")
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(rest) < size:
        chunk = sock.recv(65536)
        assert chunk, f"{size - len(rest)} bytes are missing"
        rest += chunk
    return rest
