"""Which of httpx2 and httpx the test client uses."""

import os
import subprocess
import sys

import patience
import pytest

APPLICATION = """
from turboapi import FastAPI
from turboapi.testclient import TestClient

app = FastAPI()

@app.get("/")
async def hello():
    return "hello"

with TestClient(app) as client:
    print(client.get("/").json())
    print(TestClient.__name__, {base.__module__.partition(".")[0] for base in TestClient.__mro__})
"""


# Without it, a free-threaded Python warns of modules that need the GIL.
GIL = {name: value for name, value in os.environ.items() if name == "PYTHON_GIL"}


def run(door, code, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env={"TURBOAPI_TESTCLIENT": door, **GIL},
        capture_output=True,
        text=True,
        timeout=patience.seconds(30),
    )


CLIENTS = {"": "TestClient", "native": "NativeTestClient", "h2": "Http2TestClient"}


@pytest.mark.parametrize("door", CLIENTS)
def test_httpx2_is_preferred_and_nothing_is_warned_of(door):
    pytest.importorskip("httpx2")
    done = run(door, APPLICATION, "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")
    hello, client = done.stdout.splitlines()
    assert hello == "hello"
    assert client.startswith(f"{CLIENTS[door]} ")
    assert "'httpx2'" in client
    assert "'httpx'" not in client


def test_http2_needs_a_package():
    done = run("h2", f"import sys; sys.modules['h2'] = None\n{APPLICATION}")
    assert done.returncode == 1
    assert 'RuntimeError: With TURBOAPI_TESTCLIENT=h2 the "h2" package must be' in done.stderr
    assert "pip install h2" in done.stderr


def test_an_unknown_client_is_an_error():
    done = run("nativ", "import turboapi.testclient")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "RuntimeError: TURBOAPI_TESTCLIENT must be native or h2, or not be set; it is 'nativ'"
    )


@pytest.mark.parametrize("door", CLIENTS)
def test_httpx_will_do(door):
    pytest.importorskip("httpx")
    done = run(door, f"import sys; sys.modules['httpx2'] = None\n{APPLICATION}", "-W", "always")
    assert done.returncode == 0, done.stderr
    hello, client = done.stdout.splitlines()
    assert hello == "hello"
    assert client.startswith(f"{CLIENTS[door]} ")
    assert "'httpx'" in client
    assert "'httpx2'" not in client
    assert "install `httpx2` instead" in done.stderr  # Starlette says so
