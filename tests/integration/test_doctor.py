"""`turboapi doctor`: what runs natively, what does not and why."""

import json
import os
import subprocess
import sys

import patience
import pytest
from cli_kit import run

OWN = """
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from FRAMEWORK import APIRouter, FastAPI, WebSocket
from FRAMEWORK.routing import APIRoute

print("not part of the report")
app = FastAPI(openapi_url=None)
sub = FastAPI(openapi_url=None)
bare = FastAPI(openapi_url=None)


class Timed(APIRoute):
    def get_route_handler(self):
        handler = super().get_route_handler()

        async def timed(request):
            return await handler(request)

        return timed


custom = APIRouter(route_class=Timed)


@custom.get("/custom")
def read_custom():
    return 1


@bare.get("/only/{x}")
@sub.get("/below")
@app.get("/items/{x}")
def read(x: int):
    return x


@app.post("/limited", max_body_size=10)
def limited(body: dict):
    return body


@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()


class Own(APIRouter):
    def matches(self, scope):
        return super().matches(scope)


own = Own(prefix="/own")


class Plain:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


app.include_router(custom, prefix="/p")
app.mount("/sub", sub)
app.mount("/files", StaticFiles(directory="."))


@app.middleware("http")
async def timing(request, call_next):
    return await call_next(request)


app.add_middleware(Plain)
app.add_middleware(CORSMiddleware, allow_origins=["*"])
"""


def report(folder, *arguments, code, **environ):
    done = subprocess.run(
        [sys.executable, "-m", "turboapi", "doctor", *arguments, "--json"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience.seconds(20),
        env={**os.environ, **environ},
    )
    assert done.returncode == code, done.stderr
    assert "not part of the report" in done.stderr
    return json.loads(done.stdout)


def operations(found):
    return {
        (",".join(route["methods"]), route["path"]): (route["native"], route["why"])
        for route in found["routes"]
        if route["kind"] == "operation"
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(OWN.replace("FRAMEWORK", "turboapi"))
    return tmp_path


def test_an_application_of_ours(folder):
    found = report(folder, "main:app", code=1)
    assert (found["framework"], found["native"], found["why_not"]) == ("TurboAPI", False, None)
    assert operations(found) == {
        ("GET", "/items/{x}"): (True, None),
        ("POST", "/limited"): (False, "a limit of the body's size"),
        ("GET", "/p/custom"): (False, "a custom route class"),
        ("GET", "/sub/below"): (True, None),
    }
    others = {(route["kind"], route["path"], route["native"]) for route in found["routes"]}
    assert {("mount", "/files", True), ("websocket", "/ws", None)} <= others
    assert found["middleware"] == [
        {"name": "CORSMiddleware", "cost": "C"},
        {"name": "Plain", "cost": "Python"},
        {"name": "BaseHTTPMiddleware (timing)", "cost": "C round a Python function"},
    ]
    assert found["settings"] == {}
    assert {"turboapi", "starlette", "pydantic"} <= found["versions"].keys()


def test_all_native(folder):
    found = report(folder, "main:bare", code=0)
    assert found["native"] is True
    assert operations(found) == {("GET", "/only/{x}"): (True, None)}


def test_what_decides_itself(folder):
    main = folder / "main.py"
    main.write_text(main.read_text() + 'bare.include_router(own, prefix="/at")\n')
    found = report(folder, "main:bare", code=1)
    assert operations(found) == {
        ("GET", "/only/{x}"): (True, None),
        ("", "/at/own"): (False, "a custom router class"),
    }


def test_settings_in_force(folder):
    found = report(
        folder,
        "main:bare",
        "--ssl-certfile=cert.pem",
        "--ssl-keyfile-password=hunter2",
        code=0,
        TURBOAPI_WORKERS="3",
    )
    assert found["settings"] == {
        "--ssl-certfile": ["cert.pem"],
        "--ssl-keyfile-password": "(hidden)",
        "--workers": 3,
    }


def test_tables(folder):
    code, output = run(folder, "doctor", "--workers", "3")
    assert code == 1
    assert "main  TurboAPI  2 of 4 path operations run natively" in output
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert "native GET /items/{x}" in lines
    assert "ASGI GET /p/custom a custom route class" in lines
    assert "- websocket /ws" in lines
    assert "C round a Python function BaseHTTPMiddleware (timing)" in lines
    assert "--workers 3" in lines


def test_other_applications(folder):
    (folder / "plain.py").write_text(
        "print('not part of the report')\nasync def app(scope, receive, send):\n    pass\n"
    )
    found = report(folder, "plain:app", code=1)
    assert (found["framework"], found["routes"], found["middleware"]) == ("ASGI", [], [])
    assert found["why_not"].startswith("only applications of TurboAPI and FastAPI")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere:app"], "There is no module 'nowhere'"),
        (["broken:app"], "ZeroDivisionError"),
        (["main:app", "--port", "x"], "--port: must be a number"),
        (["main:nothing"], "no attribute 'nothing'"),
    ],
)
def test_what_cannot_be_loaded(folder, arguments, message):
    (folder / "broken.py").write_text("1 / 0\n")
    code, output = run(folder, "doctor", *arguments)
    assert code == 2
    assert message in output


def test_an_unchanged_application(folder):
    pytest.importorskip("fastapi")
    (folder / "main.py").write_text(
        OWN.replace("FRAMEWORK", "fastapi").replace(", max_body_size=10", "")
    )
    found = report(folder, "main:app", code=1)
    assert found["framework"].startswith("FastAPI 0.")
    assert operations(found) == {
        ("GET", "/items/{x}"): (True, None),
        ("POST", "/limited"): (True, None),
        ("GET", "/p/custom"): (False, "a custom route class"),
        ("GET", "/sub/below"): (True, None),
    }
    assert found["middleware"][0] == {"name": "CORSMiddleware", "cost": "C"}
    assert [each["cost"] for each in found["middleware"][1:]] == [
        "Python",
        "C round a Python function",
    ]
    assert report(folder, "main:bare", code=0)["native"] is True
    found = report(folder, "main:bare", "--interface", "asgi", code=1)
    assert operations(found) == {("GET", "/only/{x}"): (False, found["why_not"])}


def test_a_replaced_function_of_fastapi(folder):
    pytest.importorskip("fastapi")
    replaced = "import fastapi.routing\n\n\ndef own(*args, **kwargs):\n    pass\n\n\n"
    replaced += "fastapi.routing.run_endpoint_function = own\n"
    text = OWN.replace("FRAMEWORK", "fastapi").replace(", max_body_size=10", "")
    (folder / "main.py").write_text(text + replaced)
    found = report(folder, "main:bare", code=1)
    assert found["why_not"] == "fastapi.routing.run_endpoint_function was replaced by main"
    assert operations(found) == {("GET", "/only/{x}"): (False, found["why_not"])}


INSTRUMENTED = {
    "sentry_sdk": "import sentry_sdk\n\nsentry_sdk.init(dsn='https://k@localhost/1')\n",
    "logfire": "import logfire\n\nlogfire.configure(send_to_logfire=False, console=False)\n",
    "ddtrace": "import ddtrace\n\nddtrace.patch(fastapi=True, starlette=True)\n",
    "opentelemetry.instrumentation.fastapi": "",
}
AFTER = {
    "logfire": "logfire.instrument_fastapi(bare)\n",
    "opentelemetry.instrumentation.fastapi": (
        "from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor\n\n"
        "FastAPIInstrumentor.instrument_app(bare)\n"
    ),
}


@pytest.mark.parametrize("package", INSTRUMENTED)
def test_known_instrumentation_stays_native(package, folder):
    pytest.importorskip("fastapi")
    pytest.importorskip(package)
    text = OWN.replace("FRAMEWORK", "fastapi").replace(", max_body_size=10", "")
    (folder / "main.py").write_text(INSTRUMENTED[package] + text + AFTER.get(package, ""))
    found = report(folder, "main:bare", code=0)
    assert found["why_not"] is None
    assert operations(found) == {("GET", "/only/{x}"): (True, None)}
