"""The metrics address: what it counts, over workers that come and go, and what it shows."""

import http.client
import json
import os
import re
import signal
import socket
import threading
import time

import patience
import pytest
from cli_kit import PATIENCE, Server, run, until
from server_kit import running

from turboapi import FastAPI, WebSocket
from turboapi._serving import metrics, metrics_data, sockets
from turboapi.cli import _status
from turboapi.config import Config, ConfigError

APP = """
import asyncio, os, time
from turboapi import FastAPI, WebSocket
from turboapi.responses import PlainTextResponse

app, inner = FastAPI(), FastAPI()

@app.get("/")
async def root():
    return "one"

@app.get("/pid")
async def pid():
    return PlainTextResponse(str(os.getpid()))

@app.get("/items/{item_id:int}")
async def item(item_id: int):
    return item_id

@app.post("/echo")
async def echo(body: dict):
    return body

@app.get("/slow/{seconds}")
async def slow(seconds: float):
    await asyncio.sleep(seconds)

@app.get("/fail")
async def fail():
    raise RuntimeError("mine")

@app.get("/die")
async def die():
    os.kill(os.getpid(), 9)

@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    await websocket.receive_text()
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def ask(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def samples(text):
    """{(name, label values in their order): value}"""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
            values = tuple(re.findall(r'="((?:[^"\\]|\\.)*)"', labels or ""))
            found[name.removeprefix("turboapi_"), values] = float(value)
    return found


@pytest.fixture
def shown():
    """Yield a function that serves with metrics in this process: (server, () -> samples)."""
    import contextlib

    @contextlib.contextmanager
    def shown(app, **settings):
        port = free_port()
        config = Config(metrics=f"127.0.0.1:{port}", interface="auto", **settings)
        with (
            metrics.serving(config) as config,
            running(
                app,
                metrics=config.metrics,
                metrics_fd=config.metrics_fd,
                interface="auto",
                **settings,
            ) as server,
        ):
            yield server, port

    return shown


def application():
    app, inner = FastAPI(), FastAPI()

    @app.get("/items/{item_id:int}")
    async def item(item_id: int):
        return item_id

    @app.post("/echo")
    async def echo(body: dict):
        return body

    @inner.get("/deep/{name}")
    def deep(name: str):
        return name

    app.mount("/sub/{tenant}", inner)
    return app


def counted(port, *labels):
    return samples(ask(port, "/metrics")[1]).get(("requests_total", labels))


def test_requests_by_route_method_and_status(shown):
    with shown(application()) as (server, port):
        for n in range(7):
            server.get(f"/items/{n}")
        server.get("/items/x")
        server.request("POST", "/echo", b'{"a":1}', {"content-type": "application/json"})
        server.request("POST", "/items/1")
        server.request("BREW", "/items/1")
        server.get("/sub/t/deep/n")
        found = samples(ask(port, "/metrics")[1])
        requests = {labels: n for (name, labels), n in found.items() if name == "requests_total"}
        assert requests == {
            ("/items/{item_id}", "GET", "200"): 7,
            ("", "GET", "404"): 1,
            ("/echo", "POST", "200"): 1,
            ("", "POST", "405"): 1,
            ("", "_OTHER", "405"): 1,
            ("/sub/{tenant}/deep/{name}", "GET", "200"): 1,
        }
        assert found["request_body_bytes_total", ()] == 7
        assert found["response_body_bytes_total", ()] > 7
        buckets = [
            n for (name, labels), n in found.items()
            if name == "request_duration_seconds_bucket" and labels[:2] == ("/items/{item_id}", "GET")
        ]  # fmt: skip
        assert buckets == sorted(buckets)
        assert buckets[-1] == found["request_duration_seconds_count", ("/items/{item_id}", "GET")]
        assert found["requests_in_flight", ()] == 0


def test_the_text_is_as_prometheus_wants_it(shown):
    parser = pytest.importorskip("prometheus_client.parser")
    with shown(application()) as (server, port):
        server.get("/items/1")
        families = {
            family.name: family
            for family in parser.text_string_to_metric_families(ask(port, "/metrics")[1])
        }
    assert families["turboapi_requests"].type == "counter"
    assert families["turboapi_request_duration_seconds"].type == "histogram"
    assert families["turboapi_connections"].samples


def test_routes_that_python_has_found(shown):
    app = application()

    @app.middleware("http")
    async def through(request, call_next):
        return await call_next(request)

    with shown(app) as (server, port):
        server.get("/items/1")
        server.get("/items/2")
        assert counted(port, "/items/{item_id}", "GET", "200") == 2


def test_more_routes_than_there_is_room_for(shown):
    with shown(application(), metrics_routes=1) as (server, port):
        server.get("/items/1")
        server.get("/sub/t/deep/n")
        server.get("/items/1")
        found = samples(ask(port, "/metrics")[1])
        assert found["requests_total", ("/items/{item_id}", "GET", "200")] == 2
        assert found["requests_unlisted_total", ()] == 1


def test_requests_in_flight_and_websockets(shown):
    arrived, release = threading.Event(), threading.Event()
    app = FastAPI()

    @app.get("/held/{name}")
    def held(name: str):
        arrived.set()
        assert release.wait(PATIENCE)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive()

    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with shown(app) as (server, port):
        with server.raw(b"GET /held/a HTTP/1.1\r\nHost: x\r\n\r\n"), server.raw(upgrade) as sock:
            assert b" 101 " in sock.recv(4096)
            assert arrived.wait(PATIENCE)
            patience.until(
                lambda: samples(ask(port, "/metrics")[1])["connections", ("http", "active")] == 1,
                10,
            )
            found = samples(ask(port, "/metrics")[1])
            assert found["websockets_open", ()] == 1
            assert found["requests_in_flight", ()] == 2
            assert found["thread_pool_calls", ("running",)] == 1
            requests = json.loads(ask(port, "/-/status.json")[1])["requests"]
            assert {one["route"] for one in requests} >= {"/held/{name}"}
            assert all(0 < one["age"] < 2 * PATIENCE for one in requests)
            release.set()
        patience.until(lambda: samples(ask(port, "/metrics")[1])["requests_in_flight", ()] == 0, 10)
        found = samples(ask(port, "/metrics")[1])
        assert found["websockets_open", ()] == 0
        assert found["requests_total", ("/ws", "GET", "101")] == 1


def test_promoted_handlers(shown):
    app = FastAPI()

    @app.get("/quick")
    def quick():
        return 1

    with shown(app) as (server, port), server.client() as connection:

        def promoted():
            for _ in range(100):
                connection.request("GET", "/quick")
                connection.getresponse().read()
            return samples(ask(port, "/metrics")[1])["handlers_promoted", ()] == 1

        patience.until(promoted, 30)


def test_pages(shown):
    with shown(application()) as (server, port):
        status, page = ask(port, "/-/status")
        assert status == 200
        assert page.startswith("<!doctype html>")
        assert not re.search(r"https?://|//cdn|src=", page)
        assert ask(port, "/-/ready") == (200, "ready\n")
        assert ask(port, "/-/live") == (200, "live\n")
        assert ask(port, "/nothing")[0] == 404
        assert ask(port, "/metrics", "POST")[0] == 405
        assert ask(port, "/metrics", "HEAD") == (200, "")
        assert ask(port, "/")[0] == 307


def test_a_loop_that_is_stuck_is_not_live():
    slot = {
        "state": metrics_data.READY, "pid": os.getpid(), "thread": 0, "since": 0.0,
        "values": [0] * 13, "lag": [0] * 17, "lag_sum": 0.0, "lag_last": 0.0, "silent": 31.0,
        "series": [], "in_flight": [],
    }  # fmt: skip
    stuck = metrics_data.Snapshot([slot])
    stuck._add(slot, living=True)
    assert not stuck.is_live(30.0)
    assert stuck.is_live(32.0)
    assert stuck.is_live(0)
    stuck._add({**slot, "silent": 0.1}, living=True)
    assert stuck.is_live(30.0)
    assert metrics_data.Snapshot([]).is_live(30.0)


def test_quantiles():
    buckets = [0] * 17
    assert metrics_data.quantile(buckets, 0.5) is None
    buckets[0] = 100
    assert metrics_data.quantile(buckets, 0.5) == pytest.approx(0.00005)
    buckets[16] = 100
    assert metrics_data.quantile(buckets, 0.99) == 10.0


@pytest.mark.parametrize("address", ["9000", "fd://3", "systemd:x", "host:99999", ""])
def test_addresses_that_are_none(address):
    with pytest.raises(ConfigError) as caught:
        Config(metrics=address)
    assert caught.value.setting == "metrics"


def test_an_address_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        with (
            pytest.raises(sockets.BindError, match="--metrics"),
            metrics.serving(Config(metrics=address)),
        ):
            pass


@pytest.fixture
def cli(tmp_path):
    (tmp_path / "main.py").write_text(APP)

    def start(*arguments):
        port = free_port()
        options = ("--port", "0", "--metrics", f"127.0.0.1:{port}", "--no-access-log")
        return Server(tmp_path, "run", "main:app", *options, *arguments), port

    return start


def test_workers_that_die_lose_nothing(cli, tmp_path):
    server, port = cli("--workers", "2")
    with server.started():
        until(lambda: counted(port, "/", "GET", "200"), "the first requests")
        server.pids(2)
        for n in range(40):
            server.get(f"/items/{n}")
        assert counted(port, "/items/{item_id}", "GET", "200") == 40
        with pytest.raises((OSError, http.client.HTTPException)):
            server.get("/die")

        def replaced():
            found = samples(ask(port, "/metrics")[1])
            return found["worker_restarts_total", ()] == 1 and found["threads", ("ready",)] == 2

        until(replaced, "another worker")
        found = samples(ask(port, "/metrics")[1])
        assert found["requests_total", ("/items/{item_id}", "GET", "200")] == 40
        assert found["requests_in_flight", ()] == 0
        server.send(signal.SIGHUP)
        until(lambda: "is to replace" in server.log, "the reload")
        for n in range(10):
            server.get(f"/items/{n}")
        assert counted(port, "/items/{item_id}", "GET", "200") == 50
        code, text = run(tmp_path, "status", f"127.0.0.1:{port}")
        assert code == 0
        assert re.search(r"GET +/items/\{item_id\} +50 ", text)
        assert "ready" in text
        server.send(signal.SIGTERM)
        server.ended()


def test_threads_of_one_process(cli):
    """Each event loop has a slot of its own, and the address shows the sum."""
    server, port = cli("--threads", "3")
    with server.started():
        for n in range(30):
            server.get(f"/items/{n}")
        assert counted(port, "/items/{item_id}", "GET", "200") == 30
        found = samples(ask(port, "/metrics")[1])
        assert found["threads", ("ready",)] == 3
        shown = json.loads(ask(port, "/-/status.json")[1])["workers"]
        assert sorted(each["thread"] for each in shown) == [0, 1, 2]
        assert {each["pid"] for each in shown} == {server.process.pid}
        assert ask(port, "/-/live")[0] == 200
        server.send(signal.SIGHUP)
        server.saw("is the supervisor of")
        until(lambda: ask_ready(port), "the metrics of the supervisor")
        until(lambda: samples(ask(port, "/metrics")[1])["threads", ("ready",)] == 3, "its threads")
        assert counted(port, "/items/{item_id}", "GET", "200") == 30


def test_a_handover_keeps_the_counts(cli):
    server, port = cli()
    with server.started():
        for n in range(5):
            server.get(f"/items/{n}")
        server.send(signal.SIGHUP)
        server.saw("is the supervisor of")
        until(lambda: ask_ready(port), "the metrics of the supervisor")
        server.get("/items/1")
        assert counted(port, "/items/{item_id}", "GET", "200") == 6
        assert len(json.loads(ask(port, "/-/status.json")[1])["workers"]) == 1


def ask_ready(port):
    try:
        return ask(port, "/-/ready")[0] == 200
    except OSError:
        return False


def test_ready_is_false_while_it_drains(cli):
    server, port = cli()
    with server.started():
        assert ask(port, "/-/ready")[0] == 200
        slow = threading.Thread(target=lambda: server.get("/slow/3"))
        slow.start()
        patience.until(lambda: json.loads(ask(port, "/-/status.json")[1])["in_flight"] == 1, 10)
        server.send(signal.SIGTERM)
        server.saw("Waiting for 1 request")
        assert ask(port, "/-/ready")[0] == 503
        assert ask(port, "/-/live")[0] == 200
        slow.join(PATIENCE)
        assert server.ended() == 0


def test_status_of_nothing(tmp_path):
    port = free_port()
    with pytest.raises(_status.StatusError, match="refused"):
        _status.ask(f"127.0.0.1:{port}")
    with pytest.raises(_status.StatusError, match="refused"):
        _status.ask(f"http://127.0.0.1:{port}/metrics")
    with pytest.raises(_status.StatusError, match="must be HOST"):
        _status.ask("nothing")
    assert run(tmp_path, "status", f"127.0.0.1:{port}")[0] == 1
    assert run(tmp_path, "status", "127.0.0.1")[0] == 2
    code, text = run(tmp_path, "status")
    assert code == 2
    assert "--metrics" in text


def test_a_unix_socket(tmp_path):
    path = tmp_path / "metrics.sock"
    with metrics.serving(Config(metrics=f"unix:{path}")):
        status = _status.ask(f"unix:{path}")
        assert status["workers"] == []
        assert not status["ready"]
    assert not path.exists()
    time.sleep(0)
