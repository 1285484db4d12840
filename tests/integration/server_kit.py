"""Starts the native server in a thread of the test's process, and talks to it over real sockets."""

import asyncio
import contextlib
import http.client
import socket
import threading

import patience
import pytest

from turboapi._serving.server import LoopThread
from turboapi.config import Config

TIMEOUT = patience.seconds(10)

# Those that a server configures.
LOGGERS = ("turboapi", "turboapi.access", "turboapi.error", "turboapi.server", "asyncio")
LOGGERS += ("uvicorn", "uvicorn.access", "uvicorn.error")

# What `client()`, `request()` and `get()` speak: "h1", or "h2" (h2_kit.py).
PROTOCOL = "h1"
both_protocols = pytest.mark.usefixtures("protocol")


class Running:
    """A server that runs; `events` is for the application's use."""

    def __init__(self, thread, loop_thread, address):
        self.thread = thread
        self.loop_thread = loop_thread
        self.address = address

    @property
    def server(self):
        return self.loop_thread.server

    def connect(self, timeout=TIMEOUT):
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect(self.address)
        return sock

    @contextlib.contextmanager
    def raw(self, data=b""):
        with self.connect() as sock:
            sock.sendall(data)
            yield sock

    def exchange(self, data):
        """Send bytes and return everything that arrives until the server closes."""
        with self.raw(data) as sock:
            return read_all(sock)

    @contextlib.contextmanager
    def client(self):
        if PROTOCOL == "h2":
            from h2_kit import Connection  # lazy: h2 may be missing

            conn = Connection(self.address, "{}:{}".format(*self.address))
        else:
            conn = http.client.HTTPConnection(*self.address, timeout=TIMEOUT)
        try:
            yield conn
        finally:
            conn.close()

    def h2(self, **options):
        from h2_kit import Client  # lazy: h2 may be missing

        return Client(self.address, **options)

    def request(self, method, path, body=None, headers=None):
        """One request on a connection of its own: (status, headers, body)."""
        with self.client() as conn:
            conn.request(method, path, body=body, headers=headers or {})
            response = conn.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def call(self, function):
        """Run a function on the loop's thread."""
        done = threading.Event()
        result = []

        def here():
            result.append(function())
            done.set()

        self.loop_thread._loop.call_soon_threadsafe(here)
        assert done.wait(TIMEOUT)
        return result[0]


def read_all(sock):
    chunks = []
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            chunks.append(chunk)
    return b"".join(chunks)


def read_until(sock, mark):
    data = b""
    while mark not in data:
        chunk = sock.recv(65536)
        if not chunk:
            break
        data += chunk
    return data


def wait_for(condition, timeout=10):
    """Poll until it is true; fail the test otherwise."""
    patience.until(condition, timeout)


@contextlib.contextmanager
def running(app, *, uds=None, host="127.0.0.1", **settings):
    """Yield a server for `app`; stopped gracefully at the end, which must succeed."""
    settings.setdefault("timeout_graceful_shutdown", patience.seconds(5))
    settings.setdefault("access_log", False)
    settings.setdefault("interface", "asgi")
    config = Config(**settings)
    if uds is None:
        bound = socket.create_server((host, 0), backlog=128)
    else:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(uds)
        bound.listen(128)
    bound.setblocking(False)
    address = bound.getsockname()
    loop_thread = LoopThread(app, config, [bound])  # takes it over
    failures = []

    def run():
        try:
            loop_thread.run()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    try:
        assert loop_thread.ready.wait(TIMEOUT)
        if loop_thread.server is None:
            thread.join(TIMEOUT)
            raise failures[0] if failures else RuntimeError(f"exit {loop_thread.exit_code}")
        yield Running(thread, loop_thread, address)
    finally:
        loop_thread.stop()
        thread.join(patience.seconds(20))
        stuck = thread.is_alive()
        bound.close()
        assert not stuck, "the server did not stop"
        if failures:
            raise failures[0]


async def send_text(send, text, status=200, headers=()):
    body = text.encode() if isinstance(text, str) else text
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"text/plain"), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def read_body(receive):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("disconnected")
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def handler(function):
    """An ASGI application of an `async def (scope, receive, send)` that has no lifespan."""

    async def app(scope, receive, send):
        assert scope["type"] == "http", "no lifespan"
        await function(scope, receive, send)

    return app


def text_app(function):
    """An ASGI application that answers with what `async def (scope)` gives."""

    async def app(scope, receive, send):
        assert scope["type"] == "http", "no lifespan"
        await send_text(send, str(await function(scope)))

    return app


async def forever():
    await asyncio.Event().wait()
