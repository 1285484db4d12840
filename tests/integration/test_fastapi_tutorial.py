"""An application of the tutorial's kind: served by `turboapi run` and by uvicorn, it answers alike.

scripts/test_fastapi_versions.py runs this on many releases of FastAPI.
"""

# ruff: noqa: SIM905
import http.client
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import patience
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

HERE = Path(__file__).parent
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
PARTS = {"content-type": "multipart/form-data; boundary=X"}


def part(name, text, filename=None):
    more = f'; filename="{filename}"' if filename is not None else ""
    head = f'--X\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + text + b"\r\n"


ITEM = b'{"name": "Foo", "price": 2.5, "tags": ["a", "a"]}'
TWO = b'{"item": ' + ITEM + b', "user": {"username": "u", "password": "p"}, "importance": 3}'
UUID = "12345678-1234-5678-1234-567812345678"
GETS = [
    "/",
    "/items/3",
    "/items/x",
    "/items/3?q=a&short=yes",
    "/items/3?short=maybe",
    "/models/lenet",
    "/models/none",
    "/files/a/b.txt",
    "/checked",
    "/checked?q=fixedquery&many=x&many=y&item-query=z",
    "/checked?q=no",
    "/filters",
    "/filters?limit=5&tags=a&tags=b",
    "/filters?limit=0&other=1",
    "/cookies",
    "/headers",
    "/portal",
    "/portal?teleport=1",
    "/unset",
    "/missing/3",
    "/unicorn",
    "/common",
    "/session",
    "/me",
    "/basic",
    "/key",
    "/response",
    "/html",
    "/text",
    "/legacy",
    "/stream",
    "/request",
    "/any",
    "/v1/users/",
    "/v1/users/rick",
    "/v1/users",
    "/v1/users/rick?skip=x",
    "/nowhere",
    "/openapi.json",
    "/docs",
]
ASKS = [
    *(("GET", path, {}, None) for path in GETS),
    ("GET", f"/types/{UUID}?start=2020-01-01T00:00:00&after=60", {}, None),
    ("GET", "/types/x?start=y", {}, None),
    ("GET", "/cookies", {"cookie": "ads_id=1; b=2"}, None),
    ("GET", "/headers", {"x-token": "a", "user-agent": "me"}, None),
    ("GET", "/common?q=1&limit=2&page=3", {"x-key": "secret"}, None),
    ("GET", "/common", {"x-key": "other"}, None),
    ("GET", "/me", {"authorization": "Bearer abc"}, None),
    ("GET", "/basic", {"authorization": "Basic dTpw"}, None),
    ("GET", "/basic", {"authorization": "Basic !"}, None),
    ("GET", "/key", {"x-api-key": "k"}, None),
    ("GET", "/", {"origin": "http://localhost"}, None),
    ("OPTIONS", "/", {"origin": "http://localhost", "access-control-request-method": "GET"}, None),
    ("HEAD", "/", {}, None),
    ("DELETE", "/items/3", {}, None),
    *(
        ("POST", "/items/", JSON, body)
        for body in (ITEM, b"{}", b"null", b"[", b"", b'{"name": "x", "price": -1}', b"\xff")
    ),
    ("POST", "/items/", {"content-type": "text/plain"}, ITEM),
    *(("PUT", f"/items/{n}", JSON, body) for n in (3, 1001) for body in (ITEM, b"null", b"")),
    ("PATCH", "/several/1", JSON, TWO),
    ("PATCH", "/several/1", JSON, b'{"item": null, "user": {}, "importance": 0}'),
    ("PATCH", "/several/1", JSON, b"null"),
    ("POST", "/embedded", JSON, b'{"item": ' + ITEM + b"}"),
    ("POST", "/embedded", JSON, ITEM),
    ("POST", "/index-weights/", JSON, b'{"1": 2.5}'),
    ("POST", "/index-weights/", JSON, b'{"x": "y"}'),
    ("POST", "/user", JSON, b'{"username": "u", "password": "p", "email": "a@example.org"}'),
    ("POST", "/user", JSON, b'{"username": "u", "password": "p", "email": "no"}'),
    *(
        ("POST", path, FORM, body)
        for path in ("/login", "/form-model")
        for body in (b"username=a&password=b", b"username=&password=b", b"password=b&x=y", b"")
    ),
    ("POST", "/token", FORM, b"username=u&password=p&scope=a+b&grant_type=password"),
    (
        "POST",
        "/upload",
        PARTS,
        part("file", b"abc", "a.txt") + part("raw", b"1", "") + part("note", b"n") + b"--X--\r\n",
    ),
    (
        "POST",
        "/upload",
        PARTS,
        part("file", b"abc", "a.txt") + part("raw", b"12", "r") + b"--X--\r\n",
    ),
    ("POST", "/upload", PARTS, part("file", b"", "") + b"--X--\r\n"),
    ("POST", "/upload", PARTS, b"garbage"),
    ("POST", "/notify/me", {}, None),
]


@contextmanager
def served(command, log, environment, app="tutorial_app:app"):
    """Start a server on a free port; gives the port, when it says that it listens there."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, app, "--port", "0"],
            cwd=HERE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "NO_COLOR": "1"},
        )
        try:
            deadline = time.monotonic() + patience.seconds(60)
            while (found := re.search(r" on http://[\d.]+:(\d+)", log.read_text())) is None:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield int(found[1])
        finally:
            process.terminate()
            process.wait(patience.seconds(20))


def ask(port, method, path, headers, body):
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(20))
    try:
        conn.request(method, path, body, {"host": "example.org", "user-agent": "test", **headers})
        response = conn.getresponse()
        given = sorted(
            (name.lower(), value)
            for name, value in response.getheaders()
            # Whose they are; and how a body of no known length is sent.
            if name.lower() not in ("date", "server", "transfer-encoding", "connection")
        )
        return response.status, given, response.read()
    finally:
        conn.close()


@pytest.mark.parametrize("instrumentation", ["", "sentry", "opentelemetry"])
def test_the_tutorial_application(instrumentation, tmp_path):
    if instrumentation == "sentry":
        pytest.importorskip("sentry_sdk")
    elif instrumentation:
        pytest.importorskip("opentelemetry.instrumentation.fastapi")
    environment = {"TUTORIAL_WITH": instrumentation}
    ours, theirs = tmp_path / "turboapi.log", tmp_path / "uvicorn.log"
    with (
        served(["turboapi", "run"], ours, environment) as port,
        served(["uvicorn"], theirs, environment) as other,
    ):
        for each in ASKS:
            got, expected = ask(port, *each), ask(other, *each)
            assert got == expected, each
    text = ours.read_text()
    native, total = map(int, re.search(r"(\d+) of (\d+) path operations", text).groups())
    assert native >= 0.95 * total, text
