"""_core.Plan: every kind of step, the order of errors, the cache, responses; plans made by hand."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from plan_kit import (
    JSON,
    Caller,
    Hooks,
    Invalid,
    Item,
    ask,
    body_plan,
    call,
    echo,
    field,
    node,
    nothing,
    param,
    plan,
    run,
)
from pydantic import TypeAdapter
from starlette.background import BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from turboapi._core import MISSING, Plan

# -- the spec ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ({}, TypeError, "hooks is missing"),
        ({"hooks": Hooks()}, ValueError, "nodes is empty"),
        ({"hooks": Hooks(), "nodes": [1]}, TypeError, r"nodes\[0\] must be a dict"),
        (
            {"hooks": Hooks(), "nodes": [node(nothing)], "other": 1},
            TypeError,
            "other is not a known key",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing, whatever=1)]},
            TypeError,
            r"nodes\[0\].whatever",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing, kind="x")]},
            ValueError,
            r"nodes\[0\].kind is unknown: 'x'",
        ),
        ({"hooks": Hooks(), "nodes": [node(nothing, parent=0)]}, ValueError, r"nodes\[0\].parent"),
        (
            {"hooks": Hooks(), "nodes": [node(nothing), node(nothing)]},
            ValueError,
            r"nodes\[0\].parent",
        ),
        ({"hooks": Hooks(), "nodes": [node(5)]}, TypeError, r"nodes\[0\].call must be callable"),
        (
            {"hooks": Hooks(), "nodes": [node(nothing)], "body": "xml"},
            ValueError,
            "body is unknown: 'xml'",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing)], "status_code": 1000},
            ValueError,
            "status_code is out of",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing)], "status_code": "x"},
            TypeError,
            "status_code must be an int",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing)], "response": {"kind": "?"}},
            ValueError,
            "response.kind",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing)], "max_body_size": -1},
            ValueError,
            "max_body_size",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing, kind="gen")]},
            ValueError,
            "generator endpoint",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing, params=[{"name": "a", "source": "query"}])]},
            ValueError,
            r"nodes\[0\].params\[0\].validate",
        ),
        (
            {
                "hooks": Hooks(),
                "nodes": [node(nothing, params=[param("a", "cookie"), param("b", "path")])],
            },
            ValueError,
            r"nodes\[0\].params\[1\].source is out of order",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing, params=[param("a", many=True)])]},
            ValueError,
            r"params\[0\].extract is missing: a custom request",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing, params=[param("a", "cookie", many=True)])]},
            ValueError,
            r"params\[0\].many is for query and header only",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing, params=[param("a"), param("a")])]},
            ValueError,
            "'a' is there twice",
        ),
        (
            {"hooks": Hooks(), "nodes": [node(nothing, inject=[("a", "sun")])]},
            ValueError,
            "inject is unknown",
        ),
        ({"hooks": Hooks(is_json=5), "nodes": [node(nothing)]}, TypeError, "hooks.is_json"),
    ],
)
def test_bad_spec(spec: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Plan(**spec)


def test_spec_is_kept_and_attributes_are_read_only() -> None:
    hooks = Hooks()
    made = plan(node(nothing), hooks=hooks, status_code=201)
    assert made.spec["status_code"] == 201
    assert made.hooks is hooks
    assert made.needs_stacks is False
    with pytest.raises(AttributeError):
        made.needs_stacks = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        Plan(1)  # type: ignore[call-arg]


# -- endpoints --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "sync", "inline"])
def test_endpoint_kinds(kind: str) -> None:
    seen = []

    async def asynchronous() -> dict[str, str]:
        seen.append(threading.get_ident())
        return {"hello": "wörld"}

    def synchronous() -> dict[str, str]:
        seen.append(threading.get_ident())
        return {"hello": "wörld"}

    made = plan(node(asynchronous if kind == "async" else synchronous, kind))
    got = ask(made)
    assert got.sent == [
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"18"), (b"content-type", b"application/json")],
        },
        {"type": "http.response.body", "body": '{"hello":"wörld"}'.encode()},
    ]
    assert (seen[0] == threading.get_ident()) == (kind != "sync")


@pytest.mark.parametrize("run_mode", ["inline", "thread", None])
def test_run_modes(run_mode: str | None) -> None:
    got = ask(plan(node(lambda: threading.get_ident() == main, "sync", run=run_mode)))
    assert got.json is (run_mode == "inline")


main = threading.get_ident()


def test_arguments_by_position_and_keyword() -> None:
    async def endpoint(b: int, a: int, z: int = 9, *, c: int, **more: int) -> Any:
        return [a, b, z, c, more]

    names = ["a", "b", "c", "d"]
    made = plan(node(endpoint, params=[param(name, kind=int) for name in names]))
    assert ask(made, b"a=1&b=2&c=3&d=4").json == [1, 2, 9, 3, {"d": 4}]


def test_bound_method_partial_and_callable_object() -> None:
    import functools

    class Thing:
        async def method(self, a: str, b: str) -> Any:
            return [a, b, type(self).__name__]

        def __call__(self, a: str, b: str) -> Any:
            return [a, b]

    params = [param("a"), param("b")]
    assert ask(plan(node(Thing().method, params=params)), b"b=2&a=1").json == ["1", "2", "Thing"]
    assert ask(plan(node(Thing(), "inline", params=params)), b"b=2&a=1").json == ["1", "2"]
    part = functools.partial(Thing().method, b="x")
    assert ask(plan(node(part, params=[param("a")])), b"a=1").json == ["1", "x", "Thing"]


# -- parameters -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "0", 0),
        (int, "-7", -7),
        (int, "999999999999999999", 999999999999999999),
        (int, "-999999999999999999999", -999999999999999999999),
        (int, "007", 7),
        (int, "%2B1", 1),
        (int, "1.0", 1),
        (int, "1_000", 1000),
        (int, "+5", 5),
        (int, "x", "int_parsing"),
        (int, "", "int_parsing"),
        (int, "1.5", "int_parsing"),
        (int, "-", "int_parsing"),
        (float, "1.5", 1.5),
        (float, "-0.0", -0.0),
        (float, "1e3", 1000.0),
        (float, "0.1", 0.1),
        (float, "123456789.123456789123456789", 123456789.123456789123456789),
        (float, "1.", 1.0),
        (float, ".5", 0.5),
        (float, "inf", float("inf")),
        (float, "1.5.2", "float_parsing"),
        (float, "", "float_parsing"),
        (bool, "true", True),
        (bool, "False", False),
        (bool, "on", True),
        (bool, "0", False),
        (bool, "N", False),
        (bool, "2", "bool_parsing"),
        (str, "a+b%20c%2Bd", "a b c+d"),
        (str, "%C3%A9%E9", "é\ufffd"),
        (str, "\xe9%C3%A9\xc3", "éé\xc3"),
        (str, "%zz%4", "%zz%4"),
        (str, "", ""),
    ],
)
def test_query_coercion_equals_pydantic(kind: Any, text: str, value: Any) -> None:
    from urllib.parse import parse_qsl

    made = plan(node(echo, "inline", params=[param("q", kind=kind)]))
    solved = run(made.solve(Request(Caller(b"q=" + text.encode("latin-1")).scope)))
    raw = parse_qsl("q=" + text, keep_blank_values=True)[0][1]
    if isinstance(value, str) and kind is not str:
        assert solved.errors == [{"type": value, "loc": "q"}]
    else:
        assert solved.errors == []
        assert solved.values["q"] == value == TypeAdapter(kind).validate_python(raw)
        assert type(solved.values["q"]) is kind


def test_query_last_wins_and_encoded_keys() -> None:
    params = [param("a"), param("b c"), param("é"), param("none", kind=str, default=None)]
    made = plan(node(echo, "inline", params=params))
    got = ask(made, b"a=1&a=2&b+c=3&&b%20c=4&=x&%C3%A9=5&a=9&noned=1")
    assert got.json == {"a": "9", "b c": "4", "é": "5", "none": None}
    assert ask(made, b"a&b+c=&%c3%a9").json == {"a": "", "b c": "", "é": "", "none": None}


def test_more_query_parameters_than_one_pass_takes() -> None:
    names = [f"p{i}" for i in range(100)]
    made = plan(node(echo, "inline", params=[param(name, kind=int) for name in names]))
    query = "&".join(f"{name}={i}" for i, name in enumerate(names)).encode()
    assert ask(made, query).json == {name: i for i, name in enumerate(names)}


def test_path_header_cookie() -> None:
    params = [
        param("item", "path", int),
        param("agent", "header", alias="user-agent"),
        param("c", "cookie"),
        param("d", "cookie"),
    ]
    made = plan(node(echo, "inline", params=params))
    headers = [
        (b"cookie", b'c=1; x; d = "two\\054" ; c=3'),
        (b"user-agent", b"caf\xe9"),
        (b"user-agent", b"second"),
        (b"cookie", b"c=4"),
    ]
    got = ask(made, b"", headers, path={"item": "12"})
    assert got.json == {"item": 12, "agent": "café", "c": "4", "d": "two,"}
    assert ask(made, b"", headers, path={"item": 12}).json["item"] == 12  # a convertor's object


def test_missing_parameters_are_reported_in_order() -> None:
    params = [param("p", "path"), param("q"), param("h", "header"), param("c", "cookie")]
    made = plan(node(echo, "inline", params=params))
    with pytest.raises(Invalid) as info:
        ask(made)
    assert [error["loc"] for error in info.value.errors] == ["p", "q", "h", "c"]
    assert info.value.body is None


def test_extract_gets_the_container() -> None:
    def extract(container: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        return container.getlist("q"), []

    def fail(container: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        return None, [{"loc": "cookies", "seen": dict(container)}]

    good = {"name": "q", "source": "query", "extract": extract}
    bad = {"name": "c", "source": "cookie", "extract": fail}
    assert ask(plan(node(echo, "inline", params=[good])), b"q=1&q=2").json == {"q": ["1", "2"]}
    with pytest.raises(Invalid) as info:
        ask(plan(node(echo, "inline", params=[good, bad])), b"", [(b"cookie", b"a=b")])
    assert info.value.errors == [{"loc": "cookies", "seen": {"a": "b"}}]


def test_validator_exceptions_of_the_user_propagate() -> None:
    def broken(value: Any, **more: Any) -> Any:
        raise ZeroDivisionError

    made = plan(node(echo, "inline", params=[param("q", validator=broken, conv=None)]))
    with pytest.raises(ZeroDivisionError):
        ask(made, b"q=1")


# -- dependencies -----------------------------------------------------------------------


def test_dependency_values_cache_and_order() -> None:
    calls: list[str] = []

    async def common() -> str:
        calls.append("common")
        return f"common{len(calls)}"

    def left(common: str) -> str:
        calls.append("left")
        return common + "-left"

    async def right(common: str, q: int) -> str:
        calls.append("right")
        return f"{common}-right{q}"

    made = plan(
        node(common, parent=1, name="common", cache=0),
        node(left, "sync", parent=6, name="left", cache=1),
        node(common, parent=3, name="common", cache=0),
        node(right, parent=6, name="right", cache=2, params=[param("q", kind=int)]),
        node(common, parent=6, name="fresh", cache=0, use_cache=False),
        node(common, parent=6, name=None, cache=0),
        node(echo, "inline"),
    )
    got = ask(made, b"q=5")
    assert got.json == {"left": "common1-left", "right": "common1-right5", "fresh": "common4"}
    assert calls == ["common", "left", "right", "common"]


def test_a_failed_dependency_is_not_called_but_its_siblings_are() -> None:
    calls: list[str] = []

    async def bad(q: int) -> None:
        calls.append("bad")

    async def user(bad: Any) -> None:
        calls.append("user")

    async def good() -> str:
        calls.append("good")
        return "good"

    made = plan(
        node(bad, parent=1, name="bad", cache=0, params=[param("q", kind=int)]),
        node(user, parent=3, name="user", cache=1, params=[param("r", kind=int)]),
        node(good, parent=3, name="good", cache=2),
        node(echo, "inline", params=[param("s")]),
    )
    with pytest.raises(Invalid) as info:
        ask(made, b"q=x")
    assert [error["loc"] for error in info.value.errors] == ["q", "r", "s"]
    assert calls == ["good"]


def test_injected_objects() -> None:
    seen: dict[str, Any] = {}

    async def dep(
        request: Request, response: Response, tasks: BackgroundTasks, connection: Any
    ) -> None:
        seen.update(request=request, response=response, tasks=tasks)
        assert connection is request
        response.headers["x-dep"] = "1"
        tasks.add_task(seen.update, ran=True)

    async def endpoint(
        request: Request, response: Response, tasks: BackgroundTasks, scopes: Any
    ) -> Any:
        assert request is seen["request"]
        assert response is seen["response"]
        assert tasks is seen["tasks"]
        response.status_code = 202
        response.set_cookie("a", "b")
        return scopes

    inject = [("request", "request"), ("response", "response"), ("tasks", "background")]
    made = plan(
        node(dep, parent=1, name=None, cache=0, inject=[*inject, ("connection", "connection")]),
        node(endpoint, inject=[*inject, ("scopes", ("const", ["a"]))]),
        status_code=201,
    )
    got = ask(made)
    assert got.status == 202
    assert [name for name, _ in got.headers] == [
        b"content-length",
        b"content-type",
        b"x-dep",
        b"set-cookie",
    ]
    assert got.json == ["a"]
    assert seen["ran"]


def test_limited_nodes_go_through_hooks() -> None:
    asked: list[Any] = []

    class More(Hooks):
        async def solve_limited(self, index: int, values: dict[str, Any]) -> Any:
            asked.append((index, values))
            return "limited"

    made = plan(
        node(nothing, "sync", parent=1, name="l", cache=1, concurrency=object()),
        node(echo, "inline"),
        hooks=More(),
    )
    assert not made.needs_stacks
    assert ask(made).json == {"l": "limited"}
    assert asked == [(0, {})]


def test_generators_of_respond_and_solve_go_through_hooks() -> None:
    asked: list[Any] = []

    class More(Hooks):
        async def solve_generator(self, index: int, values: dict[str, Any], request: Any) -> Any:
            await asyncio.sleep(0)
            asked.append((index, values, type(request)))
            return "generated"

    async def generator(q: str) -> Any:
        yield q

    made = plan(
        node(generator, "asyncgen", parent=1, name="g", cache=0, params=[param("q")]),
        node(echo, "inline"),
        hooks=More(),
    )
    assert made.needs_stacks
    request = Request(Caller(b"q=1").scope)
    assert run(made.respond(request)).body == b'{"g":"generated"}'
    assert run(made.solve(request)).values == {"g": "generated"}
    assert asked == [(0, {"q": "1"}, Request)] * 2


def test_overrides_are_asked_at_each_request() -> None:
    class App:
        dependency_overrides: dict[Any, Any] = {}

    async def dep() -> str:
        return "real"

    other = plan(node(echo, "inline", params=[param(f"q{i}", default=i) for i in range(40)]))
    app = App()
    hooks = Hooks(overrides=app, override_plan=lambda mapping, done: other)
    made = plan(node(dep, parent=1, name="dep", cache=0), node(echo, "inline"), hooks=hooks)
    assert ask(made).json == {"dep": "real"}
    app.dependency_overrides = {dep: dep}
    assert len(ask(made).json) == 40
    app.dependency_overrides = {}
    assert ask(made).json == {"dep": "real"}


# -- bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    "chunks", [[b'{"name":"x","price":2}'], [b'{"na', b"", b'me":"x"', b',"price":2}', b""]]
)
def test_json_body(fast: bool, chunks: list[bytes]) -> None:
    assert ask(body_plan(fast=fast), b"", JSON, body=chunks).json == {"name": "x", "price": 2.0}


@pytest.mark.parametrize("fast", [False, True])
def test_json_body_errors(fast: bool) -> None:
    made = body_plan(fast=fast)
    with pytest.raises(Invalid) as info:
        ask(made, b"", JSON, body=[b'{"price":"x"}'])
    assert [error["type"] for error in info.value.errors] == ["missing", "float_parsing"]
    assert info.value.body == {"price": "x"}
    with pytest.raises(Invalid) as info:
        ask(made, b"", JSON, body=[b'{"name":'])
    assert info.value.errors == [{"type": "json_invalid", "loc": ("body", 8)}]
    assert info.value.body == '{"name":'
    assert type(info.value.__cause__).__name__ == "JSONDecodeError"
    with pytest.raises(Invalid) as info:
        ask(made, b"", JSON, body=[b""])
    assert info.value.errors == [{"type": "missing", "loc": "body"}]
    assert info.value.body is None
    with pytest.raises(HTTPException) as failed:
        ask(made, b"", JSON, body=[])
    assert failed.value.status_code == 400
    assert type(failed.value.__cause__).__name__ == "ClientDisconnect"
    with pytest.raises(HTTPException):
        ask(made, b"", JSON, body=[b"\xff\xfe\xfa"])


def test_malformed_body_comes_before_dependencies_and_the_valid_one_is_in_the_error() -> None:
    called = []

    async def dep() -> None:
        called.append(1)

    adapter: TypeAdapter[Any] = TypeAdapter(Item)
    single = {
        "name": "item",
        **field(Item, "body"),
        "json_validator": adapter.validator.validate_json,
    }
    made = plan(
        node(dep, parent=1, name=None, cache=0, params=[param("q")]),
        node(echo, "inline", body={"single": single}),
        body="json",
    )
    with pytest.raises(Invalid):
        ask(made, b"q=1", JSON, body=[b"{"])
    assert not called
    with pytest.raises(Invalid) as info:
        ask(made, b"", JSON, body=[b'{"name":"a"}'])
    assert info.value.errors == [{"type": "missing", "loc": "q"}]
    assert info.value.body == {"name": "a"}


@pytest.mark.parametrize(
    ("content_type", "strict", "parsed"),
    [
        (None, True, False),
        (None, False, True),
        (b"", True, False),
        (b"", False, True),
        (b"application/json", True, True),
        (b"application/json; charset=utf-8", True, True),
        (b"application/vnd.api+json", True, True),
        (b"application/jsonx", True, False),
        (b"text/json", False, False),
    ],
)
def test_content_type(content_type: bytes | None, strict: bool, parsed: bool) -> None:
    seen = []

    async def extract(body: Any, values: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        seen.append(body)
        return {"a": 1}, []

    made = plan(
        node(echo, "inline", body={"extract": extract, "names": ["a"]}),
        body="json",
        strict_content_type=strict,
    )
    headers = [] if content_type is None else [(b"content-type", content_type)]
    assert ask(made, b"", headers, body=[b"[1]"]).json == {"a": 1}
    assert seen == [[1] if parsed else b"[1]"]
    assert ask(made, b"", headers, body=[b""]).json == {"a": 1}
    assert seen[1] is MISSING


def test_form_is_closed_at_the_end_whatever_happens() -> None:
    order: list[str] = []

    class Form(dict[str, Any]):
        async def close(self) -> None:
            await asyncio.sleep(0)
            order.append("closed")

    class More(Hooks):
        async def read_form(self, request: Request) -> Form:
            assert isinstance(request, Request)
            await asyncio.sleep(0)
            return Form(a="1")

    async def extract(body: Any, values: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        await asyncio.sleep(0)
        return dict(body), [{"loc": "a"}] if fail == "errors" else []

    async def endpoint(a: str, tasks: BackgroundTasks) -> str:
        tasks.add_task(order.append, "background")
        if fail == "raise":
            raise KeyError(a)
        if fail == "cancel":
            await asyncio.sleep(10)
        return a

    made = plan(
        node(endpoint, body={"extract": extract, "names": ["a"]}, inject=[("tasks", "background")]),
        body="form",
        hooks=More(),
    )
    fail = ""
    assert ask(made).json == "1"
    assert order == ["background", "closed"]
    fail = "raise"
    with pytest.raises(KeyError):
        ask(made)
    fail = "errors"
    with pytest.raises(Invalid):
        ask(made)
    assert order[2:] == ["closed", "closed"]
    fail = "cancel"

    async def cancelled() -> None:
        task = asyncio.ensure_future(call(made))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert order[4:] == ["closed"]
