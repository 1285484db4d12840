"""KeyboardInterrupt and SystemExit that an application raises, and Ctrl+C itself."""

import http.client
import os
import signal
import subprocess
import sys
import threading

import pytest
from test_cli import LOCAL, PATIENCE, Server

APP = """
import asyncio, os
from starlette.middleware.base import BaseHTTPMiddleware
from turboapi import BackgroundTasks, Depends, FastAPI, WebSocket
from turboapi.responses import StreamingResponse

ERROR = {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit}[os.environ["ERROR"]]
app = FastAPI()

async def through(request, call_next):
    if request.url.path == "/middleware":
        raise ERROR
    return await call_next(request)

if os.environ["MIDDLEWARE"] == "http":
    app.middleware("http")(through)
elif os.environ["MIDDLEWARE"] == "base":
    app.add_middleware(BaseHTTPMiddleware, dispatch=through)

def fail(): raise ERROR
async def afail(): raise ERROR
def fail_after():
    yield
    raise ERROR

@app.get("/")
async def root(): return os.getpid()
@app.get("/async")
async def at_once(): raise ERROR
@app.get("/async-later")
async def later():
    await asyncio.sleep(0.01)
    raise ERROR
@app.get("/def")
def in_thread(): raise ERROR
@app.get("/promoted")
def promoted(fail: bool = False):
    if fail: raise ERROR
@app.get("/before", dependencies=[Depends(fail)])
async def before(): pass
@app.get("/async-before", dependencies=[Depends(afail)])
async def async_before(): pass
@app.get("/after", dependencies=[Depends(fail_after)])
async def after(): pass
@app.get("/stream")
async def stream():
    async def pieces():
        yield b"a"
        raise ERROR
    return StreamingResponse(pieces())
@app.get("/def-stream")
def def_stream():
    def pieces():
        yield b"a"
        raise ERROR
    return StreamingResponse(pieces())
@app.get("/background")
async def background(tasks: BackgroundTasks): tasks.add_task(fail)
@app.get("/async-background")
async def async_background(tasks: BackgroundTasks): tasks.add_task(afail)
@app.get("/task")
async def task():
    await asyncio.create_task(afail())
@app.get("/callback")
async def callback():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)
@app.websocket("/websocket")
async def websocket(ws: WebSocket):
    await ws.accept()
    raise ERROR
@app.websocket("/websocket-before")
async def websocket_before(ws: WebSocket): raise ERROR
"""

UPGRADE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
DONE = (200, 200)
ENDED = (200, None)  # the response is cut off
FAILED = (500, 500)
ANSWERS = {
    "/async": FAILED,
    "/async-later": FAILED,
    "/def": FAILED,
    "/promoted?fail=1": FAILED,
    "/before": FAILED,
    "/async-before": FAILED,
    "/after": DONE,
    "/stream": ENDED,
    "/def-stream": ENDED,
    "/background": DONE,
    "/async-background": DONE,
    "/websocket": (101, 101),
    "/websocket-before": FAILED,
}
# What code does outside of the request's own Task ends asyncio's loop, if it is SystemExit.
ONLY_INTERRUPTS = {"/task": FAILED, "/callback": DONE}


def ask(server, path):
    """(status, status again once the body is there): None for a body that is cut off."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        client.request("GET", path, headers=UPGRADE if "websocket" in path else {})
        response = client.getresponse()
        if response.status == 101:
            return 101, 101
        try:
            response.read()
        except http.client.IncompleteRead:
            return response.status, None
        return response.status, response.status
    finally:
        client.close()


@pytest.mark.parametrize("loop", ["turboapi", "asyncio", "uvloop"])
@pytest.mark.parametrize("middleware", ["", "http", "base"])
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
def test_it_is_an_error_of_its_request(tmp_path, error, middleware, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    (tmp_path / "main.py").write_text(APP)
    wanted = dict(ANSWERS)
    if error == "KeyboardInterrupt":
        wanted |= ONLY_INTERRUPTS
    elif middleware:  # a stream and what follows it are in a task of Starlette's middleware's
        for path in ("/after", "/stream", "/def-stream"):
            del wanted[path]
    if middleware:
        wanted["/middleware"] = FAILED
    environ = {"ERROR": error, "MIDDLEWARE": middleware}
    with Server(tmp_path, "run", *LOCAL, "--loop", loop, **environ).started() as server:
        pid = server.get()
        for _ in range(80):  # promoted: it runs on the loop
            server.get("/promoted")
        for path, answer in wanted.items():
            assert ask(server, path) == answer, (path, server.log)
            assert server.get() == pid, (path, server.log)
        assert error in server.log
        server.send(signal.SIGINT)
        assert server.ended() == 0, server.log
        assert "Application shutdown complete" in server.log


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
def test_in_the_lifespan(tmp_path, phase):
    (tmp_path / "main.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from turboapi import FastAPI\n"
        "@asynccontextmanager\n"
        "async def life(app):\n"
        + ("    raise KeyboardInterrupt\n    yield\n" if phase == "startup" else "")
        + ("    yield\n    raise KeyboardInterrupt\n" if phase == "shutdown" else "")
        + "app = FastAPI(lifespan=life)\n"
        "@app.get('/')\n"
        "async def root(): return 1\n"
    )
    with Server(tmp_path, "run", *LOCAL) as server:
        if phase == "shutdown":
            server.started()
            server.send(signal.SIGTERM)
        assert server.ended() == 3, server.log
        assert f"Application {phase} failed" in server.log


# A server in a loop of the application's own: nobody but Python handles SIGINT.
EMBEDDED = """
import asyncio, os, signal, socket, sys
from turboapi import _core

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/raise":
        raise KeyboardInterrupt
    print("busy", flush=True)
    while True:
        pass

async def main(selector):
    selector.attach(asyncio.get_running_loop())
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    server = _core.Server(selector, _core.App(app))
    server.listen(bound.fileno())
    print(bound.getsockname()[1], flush=True)
    bound.detach()
    try:
        await asyncio.Event().wait()
    finally:
        server.close()

if {handler}:
    signal.signal(signal.SIGINT, {handler})
selector = _core.Selector()
try:
    if {runner}:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(main(selector))
    else:
        loop = asyncio.SelectorEventLoop(selector)
        loop.run_until_complete(main(selector))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


class Embedded:
    def __init__(self, *, runner, handler=None):
        code = EMBEDDED.format(runner=runner, handler=handler)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.port = int(self.line())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def line(self):
        return self.process.stdout.readline().decode().strip()

    def status(self, path):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            client.request("GET", path)
            return client.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            client.close()


@pytest.mark.parametrize("runner", [True, False])
def test_ctrl_c_where_the_server_has_no_handler_of_its_own(runner):
    with Embedded(runner=runner) as server:
        threading.Thread(target=server.status, args=("/",), daemon=True).start()
        assert server.line() == "busy"
        os.kill(server.process.pid, signal.SIGINT)
        if runner:  # the first one cancels the main task, which does not get its turn
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(0.5)
            os.kill(server.process.pid, signal.SIGINT)
        assert server.line() == "interrupted"
        assert server.process.wait(PATIENCE) is not None


@pytest.mark.parametrize("handler", ["lambda *_: None", "signal.SIG_IGN"])
def test_embedded_where_a_handler_does_not_raise(handler):
    with Embedded(runner=True, handler=handler) as server:
        assert server.status("/raise") == 500
        assert server.status("/raise") == 500
        assert server.process.poll() is None


def test_embedded_under_a_runner_its_own_interrupt_is_told_from_others():
    with Embedded(runner=True) as server:
        assert server.status("/raise") == 500
        assert server.status("/raise") == 500
        assert server.process.poll() is None


def test_embedded_with_the_handler_of_python_it_ends_in_doubt():
    with Embedded(runner=False) as server:
        server.status("/raise")
        assert server.line() == "interrupted"
