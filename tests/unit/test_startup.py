"""What an application does not need before it is served is not imported before."""

import os
import pickle
import subprocess
import sys

import patience
import pytest

from turboapi import applications, encoders, exceptions, openapi, security
from turboapi.openapi import utils

# What pydantic's plugins import is not ours to choose.
ENVIRONMENT = {**os.environ, "PYDANTIC_DISABLE_PLUGINS": "__all__"}
LATER = {
    "anyio._backends._asyncio",
    "email_validator",
    "httpx",
    "httpx2",
    "importlib.metadata",
    "jinja2",
    "opentelemetry",
    "rich",
    "pydantic.color",
    "pydantic.networks",
    "turboapi._compile.native_app",
    "turboapi._fastapi_bridge",
    "turboapi._serving.server",
    "turboapi._testclient",
    "turboapi.cli",
    "turboapi.config",
    "turboapi.loop",
    "turboapi.openapi._operation",
    "turboapi.openapi.models",
    "turboapi.openapi.utils",
    "turboapi.security.http",
    "turboapi.security.oauth2",
    "turboapi.telemetry._asgi",
    "typer",
    "uvloop",
    "watchfiles",
}


def run(code, *command):
    done = subprocess.run(
        [*command, sys.executable, "-c", code],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=patience.seconds(60),
    )
    assert done.returncode == 0, done.stderr
    return done


def test_what_an_application_does_not_import():
    imported = run("import sys, turboapi; turboapi.FastAPI(); print(*sys.modules)").stdout.split()
    assert "turboapi.applications" in imported
    assert LATER & set(imported) == set()


def test_an_application_works_that_imports_it_all_later():
    run(
        """
import turboapi
from turboapi.testclient import TestClient

app = turboapi.FastAPI()
scheme = turboapi.security.OAuth2PasswordBearer("token")


@app.get("/")
def hello(token: str = turboapi.Depends(scheme)):
    return token


with TestClient(app) as client:
    assert client.get("/", headers={"Authorization": "Bearer abc"}).json() == "abc"
    assert client.get("/openapi.json").json()["components"]["securitySchemes"]
assert turboapi.security.oauth2.OAuth2PasswordBearer is turboapi.security.OAuth2PasswordBearer
"""
    )


def test_modules_as_attributes():
    run(
        "import turboapi; turboapi.openapi.models.OpenAPI; turboapi.security.http.HTTPBearer; "
        "turboapi.openapi.utils.OpenAPI; turboapi.exceptions.RequestErrorModel"
    )


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (security, {*security.__all__, "oauth2", "http", "api_key", "open_id_connect_url"}),
        (exceptions, {"RequestErrorModel", "WebSocketErrorModel"}),
        (openapi, {"models", "utils"}),
        (applications, {"get_openapi"}),
        (encoders, {"ENCODERS_BY_TYPE"}),
        (utils, {"OpenAPI"}),
    ],
)
def test_names_that_are_made_when_asked_for(module, names):
    for name in names:
        assert getattr(module, name) is getattr(module, name)
    assert names <= set(dir(module))
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_the_maker_of_documents_may_be_replaced(monkeypatch):
    monkeypatch.setattr(
        applications, "get_openapi", lambda **options: {"title": options["title"]}, raising=False
    )
    assert applications.FastAPI(title="Mine").openapi() == {"title": "Mine"}


def test_encoders_of_types_that_are_imported_later():
    run(
        """
import sys
from turboapi.encoders import jsonable_encoder

class Odd:
    def __init__(self):
        self.a = 1

assert jsonable_encoder(Odd()) == {"a": 1}
assert "pydantic.networks" not in sys.modules
from pydantic import AnyUrl, HttpUrl, NameEmail, RedisDsn
from pydantic.color import Color
assert jsonable_encoder([AnyUrl("a://b"), HttpUrl("http://c/")]) == ["a://b", "http://c/"]
assert jsonable_encoder(RedisDsn("redis://d:1/0")) == "redis://d:1/0"
assert jsonable_encoder(NameEmail("x", "x@y.z")) == "x <x@y.z>"
assert jsonable_encoder(Color("red")) == "red"
"""
    )


def test_an_encoder_of_an_application(monkeypatch):
    networks = pytest.importorskip("pydantic.networks")
    table = encoders.ENCODERS_BY_TYPE
    assert table[networks.AnyUrl] is str
    assert table[networks.NameEmail] is str
    monkeypatch.setitem(table, complex, lambda number: [number.real, number.imag])
    assert encoders.jsonable_encoder({"a": 1j}) == {"a": [0, 1]}


def test_star():
    found = {}
    exec("from turboapi.security import *", found)
    assert set(security.__all__) <= set(found)


@pytest.mark.parametrize("name", security.__all__)
def test_pickling_by_name(name):
    of = getattr(security, name)
    assert pickle.loads(pickle.dumps(of)) is of
    assert of.__module__.startswith("turboapi.security.")


# What an application imports of others in any case.
OTHERS = (
    "import asyncio, pydantic.fields, pydantic.main, pydantic.networks, "
    "starlette.applications, starlette.middleware.base"
)
# Times the instructions of those, in user space; it was 1.75 with Python 3.13.
LIMIT = 2.0


def instructions(code):
    command = ["perf", "stat", "-x", ",", "-e", "instructions:u", "--"]
    run(code)  # byte code is written
    try:
        said = run(code, *command).stderr
    except FileNotFoundError:
        pytest.skip("there is no perf")
    except AssertionError as error:
        pytest.skip(f"perf does not work here: {error}")
    found = [line.partition(",")[0] for line in said.splitlines() if "instructions" in line]
    if not found or not found[0].isdigit():
        pytest.skip("perf cannot count instructions here")
    return int(found[0])


def test_instructions():
    ours = instructions("import turboapi; turboapi.FastAPI()")
    assert ours < LIMIT * instructions(OTHERS)


def test_the_alias_does_not_need_importlib_abc():
    run("import turboapi; turboapi.as_fastapi(); from fastapi import FastAPI, security; "
        "import fastapi.routing; assert FastAPI is turboapi.FastAPI")  # fmt: skip
