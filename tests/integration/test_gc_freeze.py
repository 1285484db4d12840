"""`--gc-freeze`: frozen before the first request, in each worker, and after each reload; and
`--gc-threshold`.
"""

import gc
import os
import subprocess
import sys

import patience
import pytest
from cli_kit import LOCAL, Server, until

APP = """
import gc
from turboapi import FastAPI

app = FastAPI()
kept = [[i] for i in range(5000)]

@app.get("/")
def frozen():
    return gc.get_freeze_count()

@app.get("/threshold")
def threshold():
    return gc.get_threshold()[0]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("arguments", [(), ("--workers", "2"), ("--loop", "asyncio")])
def test_frozen_before_the_first_request(folder, arguments):
    with Server(folder, "run", *LOCAL, *arguments).started() as server:
        assert int(server.get()) > 5000


def test_turned_off(folder):
    with Server(folder, "run", *LOCAL, "--no-gc-freeze").started() as server:
        assert server.get() == "0"


@pytest.mark.parametrize("arguments", [(), ("--workers", "2", "--preload"), ("--reload",)])
def test_threshold(folder, arguments):
    with Server(folder, "run", *LOCAL, *arguments, "--gc-threshold", "12345").started() as server:
        assert server.get("/threshold") == "12345"
    with Server(folder, "run", *LOCAL, *arguments).started() as server:
        assert server.get("/threshold") == str(gc.get_threshold()[0])


def test_by_the_environment(folder):
    with Server(folder, "run", *LOCAL, TURBOAPI_GC_FREEZE="0").started() as server:
        assert server.get() == "0"


def test_after_a_reload(folder):
    with Server(folder, "run", *LOCAL, "--reload").started() as server:
        assert int(server.get()) > 5000
        main = folder / "main.py"
        main.write_text(APP.replace("return gc", "return 1_000_000 + gc"))
        stat = main.stat()
        os.utime(main, (stat.st_atime, stat.st_mtime + 2))
        until(lambda: int(server.answers() or 0) > 1_005_000, "the reload")


def test_undone_for_a_program_that_goes_on(folder):
    script = folder / "program.py"
    script.write_text(
        APP
        + """
import os, signal, threading
from urllib.request import urlopen

def ask():
    print("serving", int(urlopen("http://127.0.0.1:%d/" % PORT).read()) > 5000)
    os.kill(os.getpid(), signal.SIGTERM)

import socket
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]

@app.on_event("startup")
async def begin():
    def later():
        for _ in range(1000):
            try:
                return ask()
            except OSError:
                threading.Event().wait(0.05)
    threading.Thread(target=later).start()

app.run(host="127.0.0.1", port=PORT)
print("afterwards", gc.get_freeze_count())
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=patience.seconds(30),
    )
    assert "serving True" in done.stdout, done.stderr
    assert "afterwards 0" in done.stdout
