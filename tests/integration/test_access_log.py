"""The access log: its formats, and that nobody waits for whoever reads it."""

import asyncio
import contextlib
import functools
import http.client
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import patience
import pytest
from certificates import Authority
from cli_kit import APP, PATIENCE
from h2_kit import needs_h2
from server_kit import LOGGERS, read_until, running
from tls_kit import connected

from turboapi import FastAPI, Request
from turboapi._serving import log, twins
from turboapi.config import Config, ConfigError
from turboapi.responses import StreamingResponse

LONG = "/" + "a" * 1000


class Piped:
    """`turboapi run` whose access log goes into a pipe that is read when the test wants it."""

    def __init__(self, folder, *arguments, app=APP):
        (folder / "main.py").write_text(app)
        self._errors = folder / "errors.txt"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "turboapi", "run", "main:app", "--port", "0", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "NO_COLOR": "1"},
            )
        self.port = 0

    def __enter__(self):
        def listening():
            return re.search(r"Listening on https?://[^ ]*:(\d+)", self.errors)

        patience.until(listening, 30)
        self.port = int(listening()[1])
        patience.until(self.answers, 30)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.stdout.close()
        self.process.wait(PATIENCE)

    @property
    def errors(self):
        return self._errors.read_text()

    def answers(self):
        try:
            return self.get("/", timeout=2) == 200
        except OSError:
            return False

    def get(self, path, timeout=PATIENCE, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def stop(self):
        """End it in order and return the lines of its log."""
        self.process.send_signal(signal.SIGTERM)
        lines = self.process.stdout.read().decode("ascii").splitlines()
        self.process.wait(PATIENCE)
        return lines


def fill(server, count=200):
    """Make more lines than a pipe holds."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        request = f"GET {LONG} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        for _ in range(count):
            sock.sendall(request)
            assert sock.recv(65536)


@pytest.mark.parametrize("form", [(), ("--access-log-format", "json")])
def test_a_reader_that_is_stuck_holds_up_nobody(tmp_path, form):
    with Piped(tmp_path, *form) as server:
        fill(server)
        assert server.get("/", timeout=PATIENCE) == 200


def test_lines_that_a_stuck_reader_misses_are_counted_and_told_once(tmp_path):
    with Piped(tmp_path, "--access-log-buffer", "16K") as server:
        fill(server, 200)
        assert "were dropped" not in server.errors
        reader = threading.Thread(target=server.process.stdout.read, daemon=True)
        reader.start()
        time.sleep(0.3)
        server.get("/")
        patience.until(lambda: "were dropped" in server.errors, 10)
        told = [int(n) for n in re.findall(r"WARNING: *(\d+) lines of the access", server.errors)]
        assert len(told) == 1
        # A pipe has 64 KB, the buffer 16, and as much was on its way.
        assert 200 - 110 <= told[0] <= 200 - 50
        server.process.send_signal(signal.SIGTERM)
        reader.join(PATIENCE)


def test_the_end_does_not_wait_for_a_stuck_reader(tmp_path):
    with Piped(tmp_path) as server:
        fill(server, 200)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < patience.seconds(6)
        assert re.search(r"\d+ lines of the access log were dropped", server.errors)


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_nothing_is_lost_at_an_ordinary_end(tmp_path, more):
    with Piped(tmp_path, "--access-log-format", "{target}", *more) as server:
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(server.process.stdout), daemon=True)
        reader.start()
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            for n in range(500):
                sock.sendall(f"GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert sock.recv(65536)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE)
        reader.join(PATIENCE)
        seen = [line for line in lines if line != b"/\n"]
        assert seen == [f"/{n}\n".encode() for n in range(500)]


# -- Formats ---------------------------------------------------------------------------------------


@pytest.fixture
def logged(monkeypatch):
    """Yield a function that serves with the logging of `turboapi run`: (server, its lines)."""
    loggers = [logging.getLogger(name) for name in LOGGERS]

    @contextlib.contextmanager
    def logged(app, form, before=lambda: None, **settings):
        out = io.StringIO()
        monkeypatch.setattr("sys.stdout", out)
        settings |= {"access_log": True, "access_log_format": form, "interface": "auto"}
        log.configure(Config(use_colors=False, **settings))
        before()
        lines = []
        with running(app, **settings) as server:
            yield server, lines
        lines.extend(out.getvalue().splitlines())

    yield logged
    for logger in loggers:
        logger.handlers.clear()
        logger.filters.clear()
    twins.forget()


def application():
    app, inner = FastAPI(), FastAPI()

    @app.post("/items/{item_id:int}")
    async def item(item_id: int, request: Request):
        return {"body": len(await request.body())}

    @app.get("/stream")
    async def stream():
        async def parts():
            yield b"abc"
            yield b"defg"

        return StreamingResponse(parts())

    @inner.get("/deep/{name}")
    def deep(name: str):
        return name

    app.mount("/sub/{tenant}", inner)
    return app


def test_json(logged):
    with logged(application(), "json") as (server, lines), server.client() as connection:
        fields = {"User-Agent": 'a "quoted" \\ agent', "Referer": "http://x/"}
        connection.request("POST", "/items/7?q=%22x", b"12345", fields)
        assert connection.getresponse().read() == b'{"body":5}'
        connection.request("GET", "/stream")
        assert connection.getresponse().read() == b"abcdefg"
        connection.request("GET", "/sub/t1/deep/a")
        assert connection.getresponse().read() == b'"a"'
        connection.request("GET", "/nothing")
        connection.getresponse().read()
        connection.request("HEAD", "/nothing")
        connection.getresponse().read()
        address = "{}:{}".format(*connection.sock.getsockname())
    item, stream, deep, nothing, head = [json.loads(line) for line in lines]
    assert item.pop("duration") < PATIENCE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", item.pop("time"))
    assert item.pop("pid") == os.getpid()
    assert item == {
        "client": address,
        "method": "POST",
        "target": "/items/7?q=%22x",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes_in": 5,
        "bytes_out": 10,
        "route": "/items/{item_id}",
        "user_agent": 'a "quoted" \\ agent',
        "referer": "http://x/",
        "host": "{}:{}".format(*server.address),
    }
    assert (stream["route"], stream["bytes_out"]) == ("/stream", 7)
    assert deep["route"] == "/sub/{tenant}/deep/{name}"
    assert nothing["status"] == 404
    assert "route" not in nothing
    assert (head["method"], head["bytes_out"]) == ("HEAD", 0)


def test_routes_that_python_has_found(logged):
    app = application()

    @app.middleware("http")
    async def through(request, call_next):
        return await call_next(request)

    with logged(app, "{route} {status}") as (server, lines):
        server.request("POST", "/items/7", b"")
        server.get("/sub/t1/deep/a")
        server.get("/nothing")
    assert lines[0] == "/items/{item_id} 200"
    assert lines[1].endswith("/deep/{name} 200")
    assert lines[2] == "- 404"


def test_a_chunked_body_is_counted(logged):
    body = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    head = b"POST /items/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with logged(application(), "{bytes_in} {status}") as (server, lines):
        server.exchange(head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        server.exchange(b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + head)
    assert lines[0] == "7 200"
    assert lines[1] == "3 404"


@pytest.mark.parametrize(("form", "end"), [("common", ""), ("combined", r' "-" "curl/8 \(x\)"')])
def test_common_and_combined(logged, form, end):
    with logged(application(), form) as (server, lines):
        server.get("/a%20b?c", **{"User-Agent": "curl/8 (x)"})
    assert re.fullmatch(
        r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
        r'"GET /a%20b\?c HTTP/1\.1" 404 22' + end,
        lines[-1],
    )


def test_own_format(logged):
    form = '{{{method}}} {route} "{user_agent}" {user_agent} {client_host} {duration} {tls_version}'
    with logged(application(), form) as (server, lines):
        server.get("/sub/a/deep/b", **{"User-Agent": 'x "y\\'})
    assert re.fullmatch(
        r'\{GET\} /sub/\{tenant\}/deep/\{name\} "x \\x22y\\x5c" x%20%22y\\ 127\.0\.0\.1 '
        r"\d+\.\d{6} -",
        lines[-1],
    )


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ("xml", "must be uvicorn, common"),
        ("{nothing}", "has no field {nothing}"),
        ("{method", "has a { without"),
        ("method} {status}", "has a } without"),
        ("{method}\n", "one line"),
        ("{method}" + "x" * 993, "at most 1000"),
    ],
)
def test_formats_that_are_none(form, word):
    with pytest.raises(ConfigError, match=re.escape(word)) as caught:
        Config(access_log_format=form)
    assert caught.value.setting == "access_log_format"
    Config(access_log_format="{method}" + "x" * 992)


HOSTILE = (
    b"GET /a%0aINFO:\"x'\\ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    b'User-Agent: m"}\t{"status":200\\\xc3\xa9\xf0\x9f\x98\x80\xff\r\n'
    b"X-Forwarded-For: 1.2.3.4\x85\xe2\x80\xa8 - - x\r\n\r\n"
)


@pytest.mark.parametrize("form", ["uvicorn", "common", "combined", "json", '{client} "{target}"'])
def test_no_line_can_be_forged(logged, form):
    with logged(application(), form) as (server, lines):
        answer = server.exchange(HOSTILE)
    if answer.startswith(b"HTTP/1.1 400"):
        pytest.fail("the parser refuses it, so that nothing is tested")
    (line,) = lines
    assert line.isascii()
    assert line.isprintable()
    if form == "json":
        seen = json.loads(line)
        assert seen["user_agent"] == 'm"}\t{"status":200\\\xe9\U0001f600\xff'
        assert "- - x" not in seen["client"] or " " in seen["client"]
    elif form == "combined":
        assert re.search(r' "-" "m\\x22\}\\x09\{\\x22status\\x22:200\\x5c', line)
    elif form == "common":
        assert line.count('"') == 2
        assert line.endswith('" 404 22')


def test_lines_fit_into_what_a_pipe_takes_in_one_piece(logged):
    text = b"\xe9" * 3000
    request = b"GET /" + b"%" * 6000 + b" HTTP/1.1\r\nHost: " + b"h" * 3000 + b"\r\n"
    request += b"User-Agent: " + text + b"\r\nReferer: " + text + b"\r\nConnection: close\r\n\r\n"
    with logged(application(), "json") as (server, lines):
        server.exchange(request)
    (line,) = lines
    assert 3000 < len(line) < 4096
    assert json.loads(line)["target"].endswith("...")


def test_a_client_that_left_before_there_was_a_status(logged):
    arrived = threading.Event()
    app = FastAPI()

    @app.get("/slow")
    async def slow():
        arrived.set()
        while not left:
            await asyncio.sleep(0.01)

    left = []
    with logged(app, "{status} {target}") as (server, lines):
        with server.raw(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") as sock:
            assert arrived.wait(PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        time.sleep(0.1)
        left.append(True)
    assert lines == ["499 /slow"]


@pytest.mark.parametrize("protocol", ["http/1.1", pytest.param("h2", marks=needs_h2)])
def test_a_client_that_left_during_a_stream_over_tls(logged, tmp_path, protocol):
    app = FastAPI()

    @app.get("/endless")
    async def endless():
        async def parts():
            while True:
                yield b"more"
                await asyncio.sleep(0.01)

        return StreamingResponse(parts())

    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    context = authority.context(alpn=[protocol])
    files = {"ssl_certfile": (certificate,), "ssl_keyfile": (key,)}
    with logged(app, "json", **files) as (server, lines):
        if protocol == "h2":
            wrap = functools.partial(context.wrap_socket, server_hostname="localhost")
            with server.h2(wrap=wrap) as client:
                client.open("GET", "/endless", {"host": "localhost"}).head()
        else:
            with connected(server, context) as sock:
                sock.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
                read_until(sock, b"more")
                chosen = sock.cipher()[0]
        time.sleep(0.2)
    (seen,) = map(json.loads, lines)
    assert seen["tls_version"] == "TLSv1.3"
    assert seen["tls_cipher"].startswith("TLS_")
    if protocol != "h2":
        assert seen["tls_cipher"] == chosen


# -- Loggers ---------------------------------------------------------------------------------------


def without_health(record):
    return "/health" not in record.getMessage()


def test_filters_of_the_user_decide(logged):
    def change():
        logging.getLogger("uvicorn.access").addFilter(without_health)

    with logged(application(), "json", change) as (server, lines):
        server.get("/health")
        server.get("/seen")
    assert [json.loads(line)["target"] for line in lines] == ["/seen"]


def test_handlers_of_the_user_get_records_as_ever(logged):
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record)

    def change():
        logging.getLogger("uvicorn.access").addHandler(Keep())

    with logged(application(), "json", change) as (server, lines):
        server.get("/seen")
    (record,) = records
    assert re.fullmatch(r'127\.0\.0\.1:\d+ - "GET /seen HTTP/1\.1" 404', record.getMessage())
    assert json.loads(record.access_line)["target"] == "/seen"
    assert json.loads(lines[-1])["target"] == "/seen"
