"""Unchanged FastAPI applications on a release that is not known: what is compiled, and the log."""

# ruff: noqa: E402, F811, I001 (without FastAPI the module is skipped)
import json
import logging
import re
from typing import Annotated

import pytest

fastapi = pytest.importorskip("fastapi")

import fastapi.routing

from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel
from server_kit import running
from test_fastapi_bridge import JSON, ask, bridge_of, compare

from turboapi._fastapi_bridge import _fingerprints, _releases


class Page(BaseModel):
    limit: int = 10


class Item(BaseModel):
    name: str


def application():
    app = FastAPI()

    def page(page: Annotated[Page, Query()]):
        return page

    @app.get("/nothing")
    async def nothing():
        return 1

    @app.get("/parameter/{x}")
    async def parameter(x: int):
        return x

    @app.get("/model")
    async def model(page: Annotated[Page, Depends(page)]):
        return page

    @app.post("/body")
    async def body(item: Item):
        return item

    return app


ASKS = [
    ("GET", "/nothing"),
    ("GET", "/parameter/3"),
    ("GET", "/parameter/x"),
    ("GET", "/model?limit=2"),
    ("POST", "/body", JSON, b'{"name": "a"}'),
    ("POST", "/body", JSON, b"null"),
]
# In each group, a function of it, and the routes that are compiled without it.
CHANGED = {
    "params": ("fastapi.dependencies.utils", "def request_params_to_args(", {"/nothing", "/body"}),
    "models": (
        "fastapi.dependencies.utils",
        "def _request_param_model_to_args(",
        {"/nothing", "/parameter/{x}", "/body"},
    ),
    "body": (
        "fastapi.dependencies.utils",
        "def request_body_to_args(",
        {"/nothing", "/parameter/{x}", "/model"},
    ),
    "solve": ("fastapi.dependencies.utils", "def solve_dependencies(", set()),
    "handler": ("fastapi.routing", "def get_request_handler(", set()),
    "tree": ("fastapi.applications", "def build_middleware_stack(", set()),
}


def sources():
    return {name: _fingerprints._source(name) for name in _fingerprints.MODULES}


def changed(module, function):
    """A FastAPI whose function does something else first."""
    found = sources()
    text, count = re.subn(
        rf"( *)(?:async )?{re.escape(function)}(?s:.)*?\) (?:-> .*?)?:\n",
        lambda match: f"{match[0]}{match[1]}    changed = 1\n",
        found[module],
        count=1,
    )
    assert count == 1
    found[module] = text
    return _fingerprints.identify(found)


@pytest.mark.parametrize("group", CHANGED)
def test_falls_back_group_by_group(group, monkeypatch, caplog):
    module, function, compiled = CHANGED[group]
    if function[4:-1] not in sources()[module]:
        pytest.skip("this release has no such function")
    unknown = changed(module, function)
    assert unknown.unknown == [group]
    monkeypatch.setattr(_fingerprints, "installed", lambda: unknown)
    with caplog.at_level(logging.INFO, "turboapi.server"):
        compare(application, ASKS)
    app = application()
    bridge = bridge_of(app)
    if bridge._why_not is None:
        paths = {place.route.path for place in bridge.table().targets if hasattr(place, "plan")}
    else:
        paths = set()
    assert paths == compiled
    (line,) = [each.getMessage() for each in caplog.records if "application: " in each.getMessage()]
    assert fastapi.__version__ in line
    if compiled:
        assert f"{len(compiled)} of 4 path operations run natively; through ASGI: " in line
        assert "which no known release reads this way" in line
    else:
        assert "Through ASGI, as no known release has its " in line


def test_a_release_that_changed_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(fastapi, "__version__", "9.99.0")
    found = {name: f"# another comment\n{text}" for name, text in sources().items()}
    again = _fingerprints.identify(found)
    assert again.unknown == []
    assert again == _fingerprints.installed()
    monkeypatch.setattr(_fingerprints, "installed", lambda: again)
    compare(application, ASKS, compiled=4)


def test_without_its_source_nothing_is_known(monkeypatch):
    nothing = _fingerprints.identify(dict.fromkeys(_fingerprints.MODULES, ""))
    assert set(nothing.unknown) == set(_fingerprints.GROUPS)
    monkeypatch.setattr(_fingerprints, "installed", lambda: nothing)
    with running(application(), interface="fastapi") as server:
        assert json.loads(ask(server, "GET", "/parameter/3")[2]) == 3


def test_the_table_of_releases():
    forms = {group: set(found.values()) for group, found in _releases.FORMS.items()}
    assert list(forms) == list(_fingerprints.GROUPS)
    names = []
    for alike, row in _releases.RELEASES.values():
        names += alike.split()
        for group, form in zip(forms, row.split(), strict=True):
            assert form in forms[group]
            assert _fingerprints.version_key(form) <= _fingerprints.version_key(alike.split()[0])
    assert len(set(names)) == len(names)
    assert fastapi.__version__ in names


@pytest.mark.parametrize("package", ["sentry_sdk.integrations.fastapi", "somebody.els"])
def test_the_log_names_who_replaced_a_function(package, monkeypatch, caplog):
    names = {"__name__": package, "original": fastapi.routing.request_response}
    exec("def wrapped(*args, **kwargs): return original(*args, **kwargs)", names)
    monkeypatch.setattr(fastapi.routing, "request_response", names["wrapped"])
    with caplog.at_level(logging.INFO, "turboapi.server"):
        with running(application(), interface="fastapi") as server:
            assert server.get("/nothing")[0] == 200
    who = f"Sentry ({package})" if "sentry" in package else package
    assert f"as fastapi.routing.request_response was replaced by {who}" in caplog.text
