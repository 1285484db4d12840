"""The same application made with FastAPI and with TurboAPI: what they answer must be equal."""

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from doors_kit import DOORS
from starlette.testclient import TestClient

REQUESTS = 3  # of each kind: the first of them may take another way than later ones


def names_of(framework: str) -> SimpleNamespace:
    """The framework's package, with what its modules offer."""
    found: dict[str, Any] = {}
    for name in ("", ".responses", ".exceptions", ".security", ".background", ".encoders"):
        module: ModuleType = importlib.import_module(framework + name)
        # Some are imported when they are first asked for.
        found |= {key: getattr(module, key) for key in dir(module) if not key.startswith("_")}
    handlers = importlib.import_module(framework + ".exception_handlers")
    return SimpleNamespace(**{**found, "handlers": handlers, "framework": framework})


def answer(client: Any, method: str, path: str, **given: Any) -> Any:
    try:
        response = client.request(method, path, **given)
    except Exception as error:
        return type(error).__name__, str(error)
    fields = [
        (name, value)
        for name, value in response.headers.raw
        if name.lower() not in (b"date", b"server", b"connection")
    ]
    return response.status_code, fields, response.content


def assert_same(make: Any, *requests: tuple[Any, ...]) -> list[Any]:
    """`make(names of a framework)` gives an app; each request is (method, path[, keywords]).

    What was answered is returned.
    """
    pytest.importorskip("fastapi")
    wanted = _ask(TestClient, make(names_of("fastapi")), requests)
    for door, client_class in DOORS.items():
        got = _ask(client_class, make(names_of("turboapi")), requests)
        for request, theirs, ours in zip(requests, wanted, got, strict=True):
            assert ours == theirs, (door, request)
    return [each[0] for each in wanted]


def _ask(client_class: Any, app: Any, requests: Any) -> list[Any]:
    with client_class(app, raise_server_exceptions=False, follow_redirects=False) as client:
        return [
            [answer(client, method, path, **(rest[0] if rest else {})) for _ in range(REQUESTS)]
            for method, path, *rest in requests
        ]
