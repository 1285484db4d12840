"""Exceptions, handlers, limits, threads, small helpers."""

import asyncio
import threading
import types
from typing import Any

import anyio
import pytest
from pydantic import ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

from turboapi import exceptions, params, responses, utils
from turboapi._body_limit import (
    AppBodyLimitMiddleware,
    get_body_limit_error,
    get_body_size_limit,
    validate_max_body_size,
    wrap_app_with_body_limit,
)
from turboapi._form_limits import _validate_form_limits
from turboapi.background import BackgroundTasks
from turboapi.concurrency import (
    _contextmanager_with_concurrency_limit,
    _DependencyConcurrency,
    asynccontextmanager,
    contextmanager_in_threadpool,
)
from turboapi.datastructures import Default
from turboapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from turboapi.testclient import TestClient

ERROR = {"type": "missing", "loc": ("query", "x"), "msg": "Field required", "input": None}


def test_texts_of_validation_errors() -> None:
    kind = exceptions.RequestValidationError
    assert str(kind([])) == "0 validation errors:"
    assert str(kind([ERROR])) == f"1 validation error:\n  {ERROR}"
    assert str(kind([ERROR], endpoint_ctx={"path": "GET /a"})).endswith("\n  Endpoint: GET /a")
    where: Any = {"file": "f.py", "line": 3, "function": "call", "path": "GET /a"}
    assert str(kind([ERROR, ERROR], endpoint_ctx=where)) == (
        f'2 validation errors:\n  {ERROR}\n  {ERROR}\n\n  File "f.py", line 3, in call\n    GET /a'
    )
    del where["path"]
    assert str(kind([ERROR], endpoint_ctx=where)).endswith(", in call")


def test_validation_errors_carry_their_place() -> None:
    error = exceptions.ResponseValidationError([ERROR], body=1, endpoint_ctx={"line": 3})
    assert (error.errors(), error.body, error.endpoint_line) == ([ERROR], 1, 3)
    assert error.endpoint_file is None
    assert not hasattr(exceptions.WebSocketRequestValidationError([]), "body")


def test_http_exceptions_are_starlettes() -> None:
    error = exceptions.HTTPException(418, {"a": 1}, {"x": "y"})
    assert isinstance(error, StarletteHTTPException)
    assert (error.status_code, error.detail, error.headers) == (418, {"a": 1}, {"x": "y"})
    assert exceptions.HTTPException(404).detail == "Not Found"
    assert issubclass(exceptions.DependencyScopeError, exceptions.FastAPIError)
    assert issubclass(exceptions.FastAPIError, RuntimeError)


def request() -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": []})


def test_handlers() -> None:
    def answer(handler: Any, error: Exception) -> Any:
        return asyncio.run(handler(request(), error))

    error = exceptions.HTTPException(403, ["a"], {"x": "y"})
    response = answer(http_exception_handler, error)
    assert (response.status_code, response.body) == (403, b'{"detail":["a"]}')
    assert response.headers["x"] == "y"
    assert answer(http_exception_handler, exceptions.HTTPException(304)).body == b""
    invalid = answer(
        request_validation_exception_handler, exceptions.RequestValidationError([ERROR])
    )
    assert isinstance(invalid, JSONResponse)
    assert invalid.status_code == 422


@pytest.mark.parametrize("limit", [-1, True, 1.5, "1"])
def test_bad_body_limits(limit: Any) -> None:
    with pytest.raises(ValueError, match="max_body_size must be a non-negative integer or None"):
        validate_max_body_size(limit)


def test_body_limits() -> None:
    validate_max_body_size(None)
    validate_max_body_size(0)
    assert get_body_size_limit(None, 0, 5) == 0
    assert get_body_size_limit(None, None) is None


async def length(scope: Any, receive: Any, send: Any) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


async def length_in_group(scope: Any, receive: Any, send: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(length, scope, receive, send)


@pytest.mark.parametrize("app", [length, length_in_group])
def test_limit_at_its_edge(app: Any) -> None:
    client = TestClient(wrap_app_with_body_limit(app, 5))
    assert client.post("/", content=b"12345").text == "5"
    assert client.post("/", content=b"123456").status_code == 413
    assert client.post("/", content=iter([b"123", b"456"])).status_code == 413
    assert wrap_app_with_body_limit(app, None) is app


def test_limits_of_a_mounted_app() -> None:
    inner = AppBodyLimitMiddleware(length, 3)
    client = TestClient(AppBodyLimitMiddleware(inner, 10))
    assert client.post("/", content=b"123").text == "3"
    assert client.post("/", content=b"1234").status_code == 413
    # No length is announced: the app itself finds out, and answers as it does to exceptions.
    answer = client.post("/", content=iter([b"12", b"34"]))
    assert (answer.status_code, answer.json()) == (413, {"detail": "Content Too Large"})


def test_other_errors_are_not_the_limits() -> None:
    assert get_body_limit_error(ValueError()) is None
    assert get_body_limit_error(ExceptionGroup("g", [ValueError()])) is None


@pytest.mark.parametrize(
    "limits", [{"max_fields": -1}, {"max_files": "1"}, {"other": 1}, {"max_part_size": True}]
)
def test_bad_form_limits(limits: Any) -> None:
    with pytest.raises(ValidationError):
        _validate_form_limits(limits)


def test_form_limits() -> None:
    assert _validate_form_limits(None) == {}
    assert _validate_form_limits({"max_fields": 0}) == {"max_fields": 0}


class Blocking:
    def __init__(self, suppress: bool) -> None:
        self.suppress = suppress
        self.threads: list[int] = []
        self.error: Any = None

    def __enter__(self) -> str:
        self.threads.append(threading.get_ident())
        return "value"

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        self.threads.append(threading.get_ident())
        self.error = error
        return self.suppress


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_blocking_context_managers(backend: str) -> None:
    quiet, loud = Blocking(True), Blocking(False)

    async def main() -> None:
        async with contextmanager_in_threadpool(quiet) as value:
            assert value == "value"
            raise ValueError
        with pytest.raises(KeyError):
            async with contextmanager_in_threadpool(loud):
                raise KeyError
        async with contextmanager_in_threadpool(loud):
            pass

    anyio.run(main, backend=backend)
    assert isinstance(quiet.error, ValueError)
    assert loud.error is None
    assert threading.get_ident() not in quiet.threads


def test_the_exit_survives_a_cancellation() -> None:
    cm = Blocking(False)

    async def main() -> None:
        with anyio.move_on_after(0.01):
            async with contextmanager_in_threadpool(cm):
                await anyio.sleep(10)

    anyio.run(main)
    assert len(cm.threads) == 2
    assert cm.error is not None


def test_concurrency_limits_are_per_loop() -> None:
    limit = _DependencyConcurrency(2)
    running = highest = 0

    @asynccontextmanager
    async def work() -> Any:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        yield
        running -= 1

    async def use() -> None:
        async with _contextmanager_with_concurrency_limit(work(), limit.get_semaphore()):
            await anyio.sleep(0.005)

    async def main() -> Any:
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(use)
        assert limit.get_semaphore() is limit.get_semaphore()
        return limit.get_semaphore()

    first, second = anyio.run(main), anyio.run(main)
    assert first is not second
    assert highest == 2


def test_background_tasks_run_in_order() -> None:
    done: list[Any] = []

    async def later(value: int) -> None:
        done.append(value)

    tasks = BackgroundTasks()
    tasks.add_task(done.append, 1)
    tasks.add_task(later, value=2)
    asyncio.run(tasks())
    assert done == [1, 2]


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        *[(s, True) for s in (None, 200, "200", 404, "default", "2XX", "5XX")],
        *[(s, False) for s in (100, 199, 204, "204", 205, 304)],
    ],
)
def test_statuses_with_a_body(status: Any, allowed: bool) -> None:
    assert utils.is_body_allowed_for_status_code(status) is allowed


def test_small_helpers() -> None:
    assert utils.get_path_param_names("/a/{b}/{c:path}") == {"b", "c:path"}
    route: Any = types.SimpleNamespace(name="get it", path_format="/a/{b}", methods={"GET"})
    assert utils.generate_unique_id(route) == "get_it_a__b__get"
    with pytest.warns(exceptions.FastAPIDeprecationWarning, match="was deprecated") as caught:
        assert utils.generate_operation_id_for_path(name="n", path="/a", method="GET") == "n_a_get"
    assert caught[0].filename == __file__
    main = {"a": {"b": 1}, "c": [1], "d": 1}
    utils.deep_dict_update(main, {"a": {"e": 2}, "c": [2], "d": [3]})
    assert main == {"a": {"b": 1, "e": 2}, "c": [1, 2], "d": [3]}
    first = Default(1)
    assert utils.get_value_or_default(first, Default(2)) is first
    assert utils.get_value_or_default(first, Default(2), 3) == 3


def test_deprecated_responses() -> None:
    with pytest.warns(exceptions.FastAPIDeprecationWarning, match="UJSONResponse is deprecated"):
        response = responses.UJSONResponse({"a": "é"}) if responses.ujson else None
        if response is None:
            with pytest.raises(AssertionError, match="ujson must be installed"):
                responses.UJSONResponse({})
        else:
            assert response.body == '{"a":"é"}'.encode()
    with pytest.warns(exceptions.FastAPIDeprecationWarning, match="ORJSONResponse is deprecated"):
        if responses.orjson is None:
            with pytest.raises(AssertionError, match="orjson must be installed"):
                responses.ORJSONResponse({})
        else:
            assert responses.ORJSONResponse({1: "é"}).body == '{"1":"é"}'.encode()


def test_place_of_a_parameter_is_a_known_one() -> None:
    assert [place.value for place in params.ParamTypes] == ["query", "header", "path", "cookie"]
