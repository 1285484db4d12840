"""`openssl s_client` looks for what a server must not do; the least settings of it are lowered."""

import shutil
import subprocess

import pytest
from certificates import Authority
from server_kit import TIMEOUT, running, text_app

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")

# The client's own defaults would refuse most of it.
ANY = "ALL:COMPLEMENTOFALL:eNULL:@SECLEVEL=0"
REQUEST = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """Yield what runs s_client with options and gives all that it says."""
    authority = Authority(tmp_path_factory.mktemp("probes"))
    cert, key = authority.issue("localhost")

    @text_app
    async def app(scope):
        return "served"

    with running(app, ssl_certfile=(cert,), ssl_keyfile=(key,)) as server:

        def run(*options, said=REQUEST):
            command = ["openssl", "s_client", "-connect", "{}:{}".format(*server.address)]
            command += ["-servername", "localhost", "-CAfile", authority.file, *options]
            done = subprocess.run(
                command, input=said, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            return done.stdout + done.stderr

        yield run


def test_what_is_current_is_served(probe):
    for option in ("-tls1_2", "-tls1_3"):
        said = probe(option, "-ign_eof")
        assert "served" in said
        assert "Verify return code: 0 (ok)" in said
    assert "Compression: NONE" in said


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions(probe, version):
    said = probe(version, "-cipher", ANY, "-ign_eof")
    assert "served" not in said
    assert "alert protocol version" in said or "unsupported protocol" in said


@pytest.mark.parametrize(
    "ciphers",
    [
        "eNULL",
        "aNULL",
        "RC4",
        "3DES",
        "EXPORT",
        "MD5",
        "SEED",
        "IDEA",
        "CAMELLIA",
        "PSK",
        "kRSA",
        "SHA1",
    ],
)
def test_weak_ciphers(probe, ciphers):
    said = probe("-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0", "-ign_eof")
    assert "served" not in said
    # Some are not even in the client.
    assert "handshake failure" in said or "no cipher" in said or "Error with command" in said


def test_renegotiation(probe):
    """Neither begun by the client in TLS 1.2, nor the one without protection."""
    said = probe("-tls1_2", said="R\n" + REQUEST)
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    assert "served" not in said
    assert "Secure Renegotiation IS supported" in said


def test_unknown_protocols_of_alpn(probe):
    said = probe("-alpn", "spdy/1,http/0.9", "-ign_eof")
    assert "no application protocol" in said
    assert "served" not in said


def test_early_data_is_not_taken(probe, tmp_path):
    """Who repeats it would repeat a request."""
    session = tmp_path / "session"
    said = probe("-tls1_3", "-sess_out", session, "-ign_eof")
    assert "served" in said
    assert session.is_file()
    assert "Max Early Data: 0" in said
