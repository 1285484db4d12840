"""TLS and HTTP/2 on several loops of one process, on free-threaded Python too."""

import http.client
import shutil
import socket
import ssl
import subprocess
import threading
import time

import patience
import pytest
from test_server_threads import make_app, threaded

from turboapi import _core
from turboapi._serving import tls
from turboapi.config import Config

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
PATIENCE = patience.seconds(10)


def certificate(folder):
    """Write a certificate of localhost and its key into one file; there is no package for it on
    every Python.
    """
    new, key = folder / "new.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += f" -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {key} -out {new}"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=PATIENCE)
    both = folder / "both.pem"
    new.write_bytes(new.read_bytes() + key.read_bytes())
    new.replace(both)
    return both


def client_context(*protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


class Clients:
    """Threads that ask until the end; `errors` must remain empty."""

    def __init__(self, address, ask, count):
        self.address, self.errors, self.answered = address, [], 0
        self.end = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(ask, n)) for n in range(count)]

    def _run(self, ask, number):
        n = number * 1_000_000
        try:
            while not self.end.is_set():
                n = ask(self.address, n)
                self.answered += 1
        except BaseException as error:  # noqa: BLE001
            self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self.threads)


def ask_http1(address, n):
    """Ten requests on a connection of their own."""
    context = client_context("http/1.1")
    conn = http.client.HTTPSConnection(*address, context=context, timeout=PATIENCE)
    try:
        for _ in range(10):
            n += 1
            kind = ("sync", "async", "wait")[n % 3]
            conn.request("GET", f"/{kind}?n={n}")
            assert conn.getresponse().read() == b'{"n":%d}' % n
    finally:
        conn.close()
    return n


def ask_http2(address, n):
    """Thirty requests at once."""
    connection = pytest.importorskip("h2.connection")
    events = pytest.importorskip("h2.events")
    context = client_context("h2")
    with (
        socket.create_connection(address, timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert sock.selected_alpn_protocol() == "h2"
        state = connection.H2Connection()
        state.initiate_connection()
        wanted, bodies, ended = {}, {}, 0
        for _ in range(30):
            n += 1
            stream = state.get_next_available_stream_id()
            wanted[stream], bodies[stream] = b'{"n":%d}' % n, b""
            kind = ("sync", "async", "wait")[n % 3]
            begin = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost")]
            state.send_headers(stream, [*begin, (":path", f"/{kind}?n={n}")], end_stream=True)
        while ended < len(wanted):
            sock.sendall(state.data_to_send())
            data = sock.recv(65536)
            assert data, "the server closed the connection"
            for event in state.receive_data(data):
                if isinstance(event, events.DataReceived):
                    bodies[event.stream_id] += event.data
                ended += isinstance(event, events.StreamEnded)
    assert bodies == wanted
    return n


KINDS = [
    ask_http1,
    pytest.param(
        ask_http2,
        marks=pytest.mark.skipif(not _core.LIBRARIES["nghttp2"], reason="there is no nghttp2"),
    ),
]


@pytest.mark.parametrize("ask", KINDS)
def test_under_load_with_new_certificates(tmp_path, ask):
    if ask is ask_http2:
        pytest.importorskip("h2")
    file = str(certificate(tmp_path))
    settings = {"ssl_certfile": (file,)}
    with threaded(make_app(set()), 2, **settings) as (address, loops):
        config = Config(**settings)
        with Clients(address, ask, 6) as clients:
            for _ in range(5):
                before = clients.answered
                certificate(tmp_path)
                for each in loops:
                    made = tls.make(config)
                    each._loop.call_soon_threadsafe(each.server.use_tls, made)
                until = time.monotonic() + PATIENCE
                while clients.answered < before + 6 and not clients.errors:
                    assert time.monotonic() < until
                    time.sleep(0.01)
        assert clients.errors == []
