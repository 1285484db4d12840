"""Applications of other frameworks under `turboapi run`."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import patience
import pytest

APPS = {
    "starlette": """
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.middleware.gzip import GZipMiddleware

@asynccontextmanager
async def lifespan(app):
    yield {"started": True}

async def read(request):
    body = (await request.body()).decode()
    return JSONResponse({"name": request.path_params["name"], "body": body,
                         "started": request.state.started})

app = Starlette(routes=[Route("/hello/{name}", read, methods=["POST"])], lifespan=lifespan)
app.add_middleware(GZipMiddleware)
""",
    "litestar": """
from litestar import Litestar, Request, post

started = []

@post("/hello/{name:str}", status_code=200)
async def read(request: Request, name: str) -> dict:
    return {"name": name, "body": (await request.body()).decode(), "started": bool(started)}

app = Litestar([read], on_startup=[lambda: started.append(1)])
""",
    "flask": """
from flask import Flask, request

app = Flask(__name__)

@app.post("/hello/<name>")
def read(name):
    return {"name": name, "body": request.get_data(as_text=True), "started": True}
""",
    "django": """
import json
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")

@require_POST
def read(request, name):
    return JsonResponse({"name": name, "body": request.body.decode(), "started": True})

urlpatterns = [path("hello/<str:name>", read)]
app = get_wsgi_application()
""",
    "fastapi": """
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request

@asynccontextmanager
async def lifespan(app):
    yield {"started": True}

app = FastAPI(lifespan=lifespan)

@app.post("/hello/{name}")
async def read(name: str, request: Request):
    body = (await request.body()).decode()
    return {"name": name, "body": body, "started": request.state.started}
""",
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def request(port, method, path, body=None):
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(10))
    try:
        conn.request(method, path, body=body)
        response = conn.getresponse()
        return response.status, response.read()
    finally:
        conn.close()


@contextmanager
def turboapi_run(folder):
    """Start the command; yield its port once it answers, and its output (complete at the end)."""
    port = free_port()
    command = [sys.executable, "-m", "turboapi", "run", "main:app"]
    output = []
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"},
        text=True,
    )
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < until, "it does not listen"
                time.sleep(0.05)
        yield port, output
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            output.append(process.communicate(timeout=patience.seconds(20))[0])
        finally:
            process.kill()
    assert process.returncode == 0, output


@pytest.mark.parametrize("framework", APPS)
def test_framework(framework, tmp_path):
    pytest.importorskip(framework)
    (tmp_path / "main.py").write_text(APPS[framework])
    with turboapi_run(tmp_path) as (port, output):
        status, body = request(port, "POST", "/hello/w%C3%B6rld", b"x" * 70000)
        assert status == 200, body
        assert json.loads(body) == {"name": "wörld", "body": "x" * 70000, "started": True}
        assert request(port, "GET", "/nowhere")[0] == 404
        assert request(port, "GET", "/hello/x")[0] == 405
    if framework == "fastapi":
        assert "1 of 1 path operations run natively" in output[0] or "Through ASGI" in output[0]


def test_flask_streams(tmp_path):
    """A generator with the request's context, a file, and what is to be done at the end."""
    pytest.importorskip("flask")
    (tmp_path / "main.py").write_text(
        """
from flask import Flask, request, send_file, stream_with_context

app = Flask(__name__)
ended = []

@app.get("/stream/<name>")
def stream(name):
    def pieces():
        try:
            while True:
                yield request.path + "\\n"
        finally:
            ended.append(name)
    return stream_with_context(pieces())

@app.get("/ended")
def get_ended():
    return ended

@app.get("/file")
def file():
    return send_file(__file__, conditional=True)

@app.teardown_request
def teardown(error):
    ended.append("teardown of " + request.path)
"""
    )
    text = (tmp_path / "main.py").read_bytes()
    with turboapi_run(tmp_path) as (port, _):
        with socket.create_connection(("127.0.0.1", port), timeout=patience.seconds(10)) as sock:
            sock.sendall(b"GET /stream/a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"/stream/a" in sock.recv(65536) + sock.recv(65536)
        until = time.monotonic() + 60
        while not {"a", "teardown of /stream/a"} <= set(
            json.loads(request(port, "GET", "/ended")[1])
        ):
            assert time.monotonic() < until
            time.sleep(0.1)
        assert request(port, "GET", "/file") == (200, text)
        conn = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(10))
        conn.request("GET", "/file", headers={"Range": "bytes=3-12"})
        response = conn.getresponse()
        assert (response.status, response.read()) == (206, text[3:13])
        conn.close()
