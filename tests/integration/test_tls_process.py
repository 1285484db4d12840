"""TLS from the command line: workers, redirects from http, certificates for development."""

import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys

import pytest
from certificates import Authority
from cli_kit import PATIENCE, Server, until

APP = """
import os
from turboapi import FastAPI, Request
app = FastAPI()

@app.get("/{path:path}")
async def root(request: Request):
    return {"pid": os.getpid(), "url": str(request.url)}
"""


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def options(authority, tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    cert, key = authority.issue("localhost")
    return ["--host", "127.0.0.1", "--port", "0", "--ssl-certfile", cert, "--ssl-keyfile", key]


class Https(Server):
    """A server that speaks https."""

    def started(self):
        self.port = int(self.saw(r"Listening on https://[^ ]*:(\d+)")[1])
        until(self.accepts, f"a server that accepts; the log has:\n{self.log}")
        return self

    def accepts(self):
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
            return True
        return False

    @contextlib.contextmanager
    def connected(self, context, session=None):
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as sock,
        ):
            yield sock

    def pid(self, context):
        with self.connected(context) as sock:
            return ask(sock)


def ask(sock):
    sock.sendall(b"GET /a HTTP/1.1\r\nhost: localhost\r\n\r\n")
    response = http.client.HTTPResponse(sock)
    response.begin()
    return int(response.read().split(b'"pid":')[1].split(b",")[0])


def turboapi(folder, *arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "turboapi", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )


def test_workers_take_each_other_s_tickets(authority, options, tmp_path):
    context = authority.context(high=ssl.TLSVersion.TLSv1_2)
    with Https(tmp_path, "run", "shop:app", "--workers", "2", *options).started() as server:
        sessions = {}

        def both():
            with server.connected(context) as sock:
                sessions[ask(sock)] = sock.session
            return len(sessions) == 2

        until(both, "an answer of each worker")
        crossed = set()

        def resumed_by_the_other():
            for pid, session in sessions.items():
                with server.connected(context, session=session) as sock:
                    other = ask(sock)
                    assert sock.session_reused
                    crossed.add((pid, other))
            return any(a != b for a, b in crossed)

        until(resumed_by_the_other, "a session that another worker resumed")


def test_sighup_reads_a_new_certificate(authority, options, tmp_path):
    context = authority.context()
    with Https(tmp_path, "run", "shop:app", *options).started() as server:
        first = server.pid(context)
        new = authority.issue("localhost", name="localhost")  # the same files
        assert new[0] in options
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.pid(context) != first, "an answer of the successor")


def test_clients_of_http_are_sent_to_https(authority, options, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        plain = free.getsockname()[1]
    options += ["--redirect-http", str(plain)]

    def get(host, path="/a%20b?c=%C3%A9"):
        connection = http.client.HTTPConnection("127.0.0.1", plain, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.putrequest("GET", path, skip_host=True)
            if host is not None:
                connection.putheader("host", host)
            connection.endheaders()
            response = connection.getresponse()
            return response.status, response.getheader("location")

    with Https(tmp_path, "run", "shop:app", "--workers", "2", *options).started() as server:
        location = f":{server.port}/a%20b?c=%C3%A9"
        assert get("localhost") == (308, "https://localhost" + location)
        assert get("localhost:8080") == (308, "https://localhost" + location)
        assert get("[::1]:80") == (308, "https://[::1]" + location)
        assert get("x.example") == (308, "https://x.example" + location)
        assert get("a/b") == (400, None)
        assert get("") == (400, None)
        assert server.pid(authority.context())
        second = turboapi(tmp_path, "run", "shop:app", *options)
        assert second.returncode == 1
        assert "--redirect-http" in second.stderr


def test_errors_name_the_option(authority, options, tmp_path):
    result = turboapi(tmp_path, "run", "shop:app", *options[:-1], "nothing.key")
    assert result.returncode == 2
    assert "--ssl-keyfile: nothing.key can't be read: No such file" in result.stderr
    other = authority.issue("other")
    environ = {"TURBOAPI_SSL_KEYFILE": other[1]}
    result = turboapi(tmp_path, "run", "shop:app", *options[:-2], **environ)
    assert result.returncode == 2
    assert "TURBOAPI_SSL_KEYFILE: the key in" in result.stderr


def test_a_certificate_for_development(tmp_path):
    pytest.importorskip("trustme")
    (tmp_path / "shop.py").write_text(APP)
    arguments = ("dev", "shop:app", "--https", "--port", "0")
    with Https(tmp_path, *arguments, XDG_CACHE_HOME=str(tmp_path)).started() as server:
        folder = tmp_path / "turboapi" / "https"
        assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
        assert server.pid(ssl.create_default_context(cafile=folder / "authority.pem"))


def test_certificates_for_other_hosts(tmp_path):
    pytest.importorskip("trustme")
    (tmp_path / "shop.py").write_text(APP)
    made = turboapi(tmp_path, "cert", "localhost", "shop.test", "--to", "certs")
    assert made.returncode == 0, made.stderr
    command = made.stdout.splitlines()[0].split()[1:]
    assert command == ["run", "--ssl-certfile", "certs/cert.pem", "--ssl-keyfile", "certs/key.pem"]
    options = ("shop:app", "--host", "127.0.0.1", "--port", "0")
    with Https(tmp_path, *command, *options).started() as server:
        assert server.pid(ssl.create_default_context(cafile=tmp_path / "certs" / "authority.pem"))


def test_a_certificate_that_is_there_is_not_replaced(tmp_path):
    pytest.importorskip("trustme")
    x509 = pytest.importorskip("cryptography.x509")

    def files():
        return [(tmp_path / f"{name}.pem").read_bytes() for name in ("authority", "cert", "key")]

    assert turboapi(tmp_path, "cert", "localhost").returncode == 0
    before = files()
    names = (
        x509.load_pem_x509_certificate(before[1])
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    addresses = names.get_values_for_type(x509.IPAddress)
    assert list(map(str, addresses)) == ["127.0.0.1", "::1"]
    again = turboapi(tmp_path, "cert", "shop.test")
    assert again.returncode == 1
    assert "key.pem, authority.pem are there already; --force replaces them" in again.stderr
    assert files() == before
    (tmp_path / "cert.pem").unlink()
    (tmp_path / "key.pem").unlink()
    again = turboapi(tmp_path, "cert", "shop.test")
    assert "cert: authority.pem is there already; --force replaces them" in again.stderr
    assert turboapi(tmp_path, "cert", "shop.test", "--force").returncode == 0
    assert not set(files()) & set(before)
