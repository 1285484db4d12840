"""`turboapi.Config` and `turboapi.Server`: uvicorn's names, in event loops that run already."""

import asyncio
import contextlib
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import patience
import pytest
from patience import until

import turboapi
from turboapi import loop as own_loop

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "turboapi": own_loop.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(autouse=True)
def quiet():
    """Leave logging as it was."""
    loggers = [logging.getLogger(name) for name in ("turboapi", "turboapi.access", "uvicorn")]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for each, level, handlers, propagate in before:
        each.level, each.handlers, each.propagate = level, handlers, propagate


def make(**more):
    app = turboapi.FastAPI(**more)
    app.state.told = []

    @app.get("/")
    async def root():
        return {"hello": "world"}

    @app.get("/slow")
    async def slow():
        app.state.told.append("slow")
        await asyncio.sleep(3600)

    return app


def config(app, **settings):
    return turboapi.Config(app, **{"port": 0, "log_config": None, **settings})


def port_of(server):
    return server.servers[0].sockets[0].getsockname()[1]


def get(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(10))
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read()


async def started(server):
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.005)
    return serving


def run_in(loop, main):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(asyncio.wait_for(main, patience.seconds(30)))


@pytest.mark.parametrize("loop", LOOPS)
def test_in_a_running_loop(loop):
    async def main():
        events = []

        @contextlib.asynccontextmanager
        async def lifespan(app):
            events.append("start")
            yield
            events.append("stop")

        server = turboapi.Server(config(make(lifespan=lifespan)))
        assert not server.started
        serving = await started(server)
        port = port_of(server)
        assert await asyncio.to_thread(get, port) == b'{"hello":"world"}'
        assert events == ["start"]
        server.should_exit = True
        await serving
        assert server.started
        assert events == ["start", "stop"]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port))

    run_in(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_two_in_one_loop(loop):
    async def main():
        servers = [turboapi.Server(config(make())) for _ in range(2)]
        serving = [await started(server) for server in servers]
        for server in servers:
            assert await asyncio.to_thread(get, port_of(server)) == b'{"hello":"world"}'
        servers[0].should_exit = True
        await serving[0]
        assert await asyncio.to_thread(get, port_of(servers[1])) == b'{"hello":"world"}'
        servers[1].should_exit = True
        await serving[1]

    run_in(loop, main())


@pytest.mark.parametrize("kind", ["turboapi", "asyncio"])
def test_in_a_thread(kind):
    server = turboapi.Server(config(make(), loop=kind))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        assert get(port_of(server)) == b'{"hello":"world"}'
    finally:
        server.should_exit = True
        thread.join(patience.seconds(10))
    assert not thread.is_alive()


def test_to_end_before_the_start():
    async def main():
        server = turboapi.Server(config(make()))
        server.should_exit = True
        await server.serve()
        assert not server.started

    run_in("asyncio", main())


@pytest.mark.parametrize("run", [True, False])
def test_metrics_are_of_what_it_serves(run):
    with socket.create_server(("127.0.0.1", 0)) as free:
        shown = free.getsockname()[1]
    server = turboapi.Server(config(make(), metrics=f"127.0.0.1:{shown}"))

    def ask():
        try:
            until(lambda: server.started)
            get(port_of(server))
            return get(shown, "/-/ready"), get(shown, "/metrics")
        finally:
            server.should_exit = True

    async def main():
        serving = await started(server)
        told = await asyncio.to_thread(ask)
        await serving
        return told

    before = len(os.listdir("/proc/self/fd"))
    if run:
        with ThreadPoolExecutor(1) as asking:
            told = asking.submit(ask)
            server.run()
        ready, text = told.result()
    else:
        ready, text = run_in("asyncio", main())
    assert ready == b"ready\n"
    assert b'requests_total{route="/",method="GET",status="200"} 1' in text
    assert len(os.listdir("/proc/self/fd")) == before


def test_at_once():
    """What is in flight is waited for, until force_exit is set."""

    async def main():
        app = make()
        server = turboapi.Server(config(app))
        serving = await started(server)
        asking = asyncio.create_task(asyncio.to_thread(_try, port_of(server), "/slow"))
        while not app.state.told:
            await asyncio.sleep(0.005)
        server.should_exit = True
        await asyncio.sleep(0.1)
        assert not serving.done()
        server.force_exit = True
        await serving
        assert await asking is None

    run_in("asyncio", main())


def _try(port, path):
    try:
        return get(port, path)
    except (OSError, http.client.HTTPException):
        return None


def test_cancelled():
    async def main():
        events = []

        @contextlib.asynccontextmanager
        async def lifespan(app):
            yield
            events.append("stop")

        server = turboapi.Server(config(make(lifespan=lifespan)))
        serving = await started(server)
        port = port_of(server)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert events == ["stop"]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port))

    run_in("asyncio", main())


def test_given_sockets():
    async def main():
        settings = config(make())
        bound = settings.bind_socket()
        port = bound.getsockname()[1]
        server = turboapi.Server(settings)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started:
            await asyncio.sleep(0.005)
        assert port_of(server) == port
        assert await asyncio.to_thread(get, port) == b'{"hello":"world"}'
        server.should_exit = True
        await serving
        assert bound.fileno() == -1

    run_in("asyncio", main())


def test_steps_that_subclasses_extend():
    told = []

    class Server(turboapi.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets=sockets)
            told.append(("startup", self.started))

        async def shutdown(self, sockets=None):
            await super().shutdown(sockets=sockets)
            told.append(("shutdown", self.should_exit))

    async def main():
        server = Server(config(make()))
        serving = await started(server)
        server.should_exit = True
        await serving

    run_in("asyncio", main())
    assert told == [("startup", True), ("shutdown", True)]


def test_ends_after_so_many_requests():
    async def main():
        server = turboapi.Server(config(make(), limit_max_requests=3))
        serving = await started(server)
        for _ in range(3):
            await asyncio.to_thread(get, port_of(server))
        await serving

    run_in("asyncio", main())


def test_an_address_in_use_and_a_failed_start():
    async def refused():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = turboapi.Server(config(make(), port=taken.getsockname()[1]))
            with pytest.raises(Exception, match="in use"):
                await server.serve()
            assert not server.started

    run_in("asyncio", refused())

    @contextlib.asynccontextmanager
    async def lifespan(app):
        raise RuntimeError("no")
        yield

    with pytest.raises(SystemExit) as ended:
        turboapi.Server(config(make(lifespan=lifespan))).run()
    assert ended.value.code == 3


def test_the_configuration():
    one = config(make(), host="::1", reload_dirs=["tests"], timeout_keep_alive=9)
    assert (one.host, one.timeout_keep_alive, one.timeout_idle) == ("::1", 9, 9)
    assert (one.reload_dirs, one.settings.reload_dir) == (("tests",), ("tests",))
    assert one.workers == 1
    one.port = "81"
    assert one.settings.port == 81
    with pytest.raises(turboapi.config.ConfigError, match="port"):
        one.port = -1
    with pytest.raises(AttributeError):
        one.no_such_setting  # noqa: B018
    assert not one.loaded
    one.load()
    assert one.loaded_app is one.app
    made = config(make, factory=True)
    made.load()
    assert isinstance(made.loaded_app, turboapi.FastAPI)


SCRIPT = """
import asyncio
import turboapi

app = turboapi.FastAPI()

@app.get("/")
async def root():
    return 1

async def main():
    server = turboapi.Server(turboapi.Config("script:app", port=0))
    try:
        await server.serve()
    finally:
        print("after", flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_signals_end_it_and_have_their_effect(tmp_path, number, code):
    (tmp_path / "script.py").write_text(SCRIPT)
    log = tmp_path / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        until(lambda: "Listening on" in log.read_text() or process.poll() is not None)
        process.send_signal(number)
        ended = process.wait(patience.seconds(10))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    said = log.read_text()
    assert "Application shutdown complete." in said
    # Python ends a program that SIGINT has interrupted by the signal itself.
    assert ended in (code, -number), said
    if number == signal.SIGINT:
        assert "after" in said


def test_run_takes_uvicorns_names(monkeypatch):
    from turboapi._serving import run as serving

    seen = []
    monkeypatch.setattr(serving, "serve_config", lambda config: seen.append(config) or 0)
    turboapi.run("main:app", host="::", workers=2, reload_dirs=["tests"], timeout_keep_alive=3)
    (one,) = seen
    assert (one.app, one.host, one.workers, one.reload_dir) == ("main:app", "::", 2, ("tests",))
    assert one.timeout_idle == 3
    with pytest.raises(turboapi.config.ConfigError, match="callback_notify: run a task"):
        turboapi.run("main:app", callback_notify=print)
