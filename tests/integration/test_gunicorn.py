"""gunicorn with `turboapi.gunicorn.Worker`."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys

import patience
import pytest
from patience import until

pytest.importorskip("gunicorn", reason="gunicorn is not installed")

APP = """
import os
from turboapi import FastAPI, Request

app = FastAPI()

@app.get("/")
async def root(request: Request):
    return [os.getpid(), request.url.scheme]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@contextlib.contextmanager
def gunicorn(folder, *options):
    """gunicorn as a process, its log and its port."""
    log = folder / "log.txt"
    command = [sys.executable, "-m", "gunicorn", "-k", "turboapi.gunicorn.Worker"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--bind", "127.0.0.1:0", *options, "main:app"],
            cwd=folder,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        until(lambda: process.poll() is not None or "Listening at" in log.read_text())
        found = re.search(r"Listening at: https?://[^ ]*:(\d+)", log.read_text())
        assert found, log.read_text()
        yield process, log, int(found[1])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(patience.seconds(15))
            finally:
                process.kill()


def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(10))
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read()


def test_serves_and_ends(folder):
    with gunicorn(folder, "--workers", "2", "--access-logfile", "-") as (process, log, port):
        seen = set()
        until(lambda: seen.add(ask(port)) or len(seen) == 2, what="two workers")
        until(lambda: log.read_text().count('"GET / HTTP/1.1" 200') >= 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(patience.seconds(15)) == 0
        assert "Traceback" not in log.read_text()
        assert log.read_text().count("Application shutdown complete") == 2


def test_replaces_workers_after_so_many_requests(folder):
    with gunicorn(folder, "--max-requests", "3") as (_, log, port):
        seen = set()

        def two():
            with contextlib.suppress(OSError, http.client.HTTPException):
                seen.add(ask(port))
            return len(seen) > 1

        until(two, what="another worker")
        assert "Maximum request limit of 3" in log.read_text()


def test_an_application_that_does_not_start(folder):
    (folder / "main.py").write_text(
        APP.replace("FastAPI()", "FastAPI(lifespan=start)").replace(
            "app =",
            "import contextlib\n"
            "@contextlib.asynccontextmanager\n"
            "async def start(app):\n    raise RuntimeError('not today')\n    yield\n"
            "app =",
        )
    )
    with gunicorn(folder) as (process, log, _):
        assert process.wait(patience.seconds(15)) == 3
        assert "not today" in log.read_text()
