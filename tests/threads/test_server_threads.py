"""Several loops in one process share an application: `--threads`, on free-threaded Python too."""

import asyncio
import contextlib
import http.client
import json
import socket
import sys
import threading
import time

import patience
import pytest

from turboapi import FastAPI
from turboapi._serving.server import LoopThread, _follow
from turboapi.config import Config

PATIENCE = patience.seconds(10)


@contextlib.contextmanager
def threaded(app, count, **settings):
    """As `server._serve_threads`, but for the signals: the address, and the loops."""
    first = socket.socket()
    first.bind(("127.0.0.1", 0))
    first.setblocking(False)
    address = first.getsockname()
    socks = [first] + [first.dup() for _ in range(count - 1)]
    # Clients may be slow, under a sanitizer.
    patient = dict.fromkeys(("timeout_idle", "timeout_header", "timeout_handshake"), PATIENCE)
    config = Config(
        **{"threads": count, "access_log": False, "timeout_graceful_shutdown": 5},
        **{**patient, **settings},
    )
    loops = [LoopThread(app, config, [sock]) for sock in socks]
    threads = [threading.Thread(target=_follow, args=(each, loops[0])) for each in loops]
    for thread in threads:
        thread.start()
    try:
        for each in loops:
            assert each.ready.wait(PATIENCE)
        yield address, loops
    finally:
        for each in loops:
            each.stop()
        for thread in threads:
            thread.join(PATIENCE)
        for sock in socks:
            sock.close()
    assert not any(thread.is_alive() for thread in threads)
    assert [each.exit_code for each in loops] == [0] * count


def make_app(seen):
    app = FastAPI()

    @app.get("/sync")
    def sync(n: int):
        seen.add(threading.get_ident())
        return {"n": n}

    @app.get("/async")
    async def async_(n: int):
        seen.add(threading.get_ident())
        return {"n": n}

    @app.get("/wait")
    async def wait(n: int):
        task = asyncio.current_task()
        async with asyncio.timeout(10):
            await asyncio.sleep(0.0005)
        assert asyncio.current_task() is task
        return {"n": n}

    @app.post("/body")
    async def body(item: dict):
        return item

    @app.get("/fail")
    async def fail(n: int):
        raise ValueError(n)

    return app


def work(address, errors, stop, offset):
    client = http.client.HTTPConnection(*address, timeout=PATIENCE)
    n = offset
    try:
        while time.monotonic() < stop:
            n += 1
            kind = ("sync", "async", "wait", "body")[n % 4]
            if n % 50 == 0:  # another connection, maybe another thread
                client.close()
            if kind == "body":
                client.request(
                    "POST", "/body", json.dumps({"n": n}), {"content-type": "application/json"}
                )
            else:
                client.request("GET", f"/{kind}?n={n}")
            response = client.getresponse()
            answer = json.loads(response.read())
            if answer != {"n": n}:
                errors.append(answer)
    except BaseException as error:  # noqa: BLE001
        errors.append(error)
    finally:
        client.close()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_threads_under_load(count):
    seen, errors = set(), []
    with threaded(make_app(seen), count) as (address, _):
        stop = time.monotonic() + 2
        clients = [
            threading.Thread(target=work, args=(address, errors, stop, i * 1_000_000))
            for i in range(8)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join(2 * PATIENCE)
    assert errors == []
    assert len(seen) >= count  # the loops' threads, and workers


def test_routes_change_under_load():
    app = make_app(set())
    errors = []
    with threaded(app, 2) as (address, _):
        stop = time.monotonic() + 1.5
        clients = [
            threading.Thread(target=work, args=(address, errors, stop, i * 1_000_000))
            for i in range(4)
        ]
        for client in clients:
            client.start()
        for n in range(10):
            app.add_api_route(f"/added/{n}", lambda: "added")
            time.sleep(0.05)
        for client in clients:
            client.join(2 * PATIENCE)
        client = http.client.HTTPConnection(*address, timeout=PATIENCE)
        client.request("GET", "/added/9")
        assert client.getresponse().read() == b'"added"'
        client.close()
    assert errors == []


def test_calls_from_threads_while_the_loop_goes_to_wait():
    """Each call finds it about to wait, or waiting: what it schedules runs at once."""
    with threaded(make_app(set()), 1) as (address, [one]):
        connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
        connection.request("GET", "/sync?n=1")  # the loop serves, and is known
        connection.getresponse().read()
        loop, ran = one._loop, threading.Semaphore(0)

        def call():
            for _ in range(1000):
                loop.call_soon_threadsafe(ran.release)
                time.sleep(0)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for each in callers:
            each.start()
        for _ in range(3 * 1000):
            assert ran.acquire(timeout=PATIENCE)
        for each in callers:
            each.join(PATIENCE)
        connection.close()


@pytest.mark.skipif(
    getattr(sys, "_is_gil_enabled", lambda: True)(), reason="this Python has the GIL"
)
def test_the_module_leaves_the_gil_off():
    assert not sys._is_gil_enabled()
