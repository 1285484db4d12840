"""_core.Plan: responses, what `respond` and `solve` give, exceptions and their handlers."""

from __future__ import annotations

import asyncio
import sys
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
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.websockets import WebSocket

from turboapi._core import MISSING, Solved

# -- responses --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [100, 204, 205, 304])
def test_statuses_without_a_body(status: int) -> None:
    got = ask(plan(node(echo, "inline"), status_code=status))
    assert got.body == b""
    names = [name for name, _ in got.headers]
    assert (b"content-length" in names) == (status == 205)


def test_returned_response_is_sent_as_it_is() -> None:
    ran = []

    async def endpoint(response: Response, tasks: BackgroundTasks) -> Response:
        response.headers["x-lost"] = "1"
        response.status_code = 400
        tasks.add_task(ran.append, 1)
        return PlainTextResponse("hi", 203, {"x-own": "1"})

    made = plan(
        node(endpoint, inject=[("response", "response"), ("tasks", "background")]), status_code=500
    )
    got = ask(made)
    assert (got.status, got.body, ran) == (203, b"hi", [1])
    assert dict(got.headers)[b"x-own"] == b"1"
    assert b"x-lost" not in dict(got.headers)


def test_own_background_is_kept_and_runs_after_the_response() -> None:
    order: list[Any] = []

    async def endpoint(tasks: BackgroundTasks) -> Response:
        tasks.add_task(order.append, "lost")
        return Response(b"x", background=BackgroundTask(lambda: order.append(len(caller.sent))))

    made = plan(node(endpoint, inject=[("tasks", "background")]))
    caller = Caller()
    run(caller.run(made))
    assert order == [2]


def test_streaming_and_custom_call() -> None:
    async def stream() -> Any:
        for i in range(3):
            await asyncio.sleep(0)
            yield str(i)

    class Odd(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 299, "headers": []})
            await send({"type": "http.response.body", "body": b"odd"})

    async def streaming() -> Response:
        return StreamingResponse(stream())

    async def odd() -> Response:
        return Odd()

    assert ask(plan(node(streaming)), body=[b""]).body == b"012"
    got = ask(plan(node(odd)))
    assert (got.status, got.body) == (299, b"odd")


def test_field_response() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Item)

    class Row:
        name = "from attributes"
        price = 2

    async def good() -> Any:
        return Row()

    async def bad() -> Any:
        return 5

    response = {
        "kind": "field",
        "validator": adapter.validator.validate_python,
        "to_json": adapter.serializer.to_json,
    }
    got = ask(plan(node(good), response=response, status_code=201))
    assert (got.status, got.body) == (201, b'{"name":"from attributes","price":2.0}')
    with pytest.raises(TypeError, match="invalid response 5: model_attributes_type") as caught:
        ask(plan(node(bad), response=response))
    assert caught.value.__context__ is None
    odd = Hooks(response_error=lambda error, value, request: None)
    with pytest.raises(TypeError, match="hook response_error must return an exception"):
        ask(plan(node(bad), response=response, hooks=odd))

    async def slowly(value: Any, request: Request) -> bytes:
        await asyncio.sleep(0)
        return b"slow"

    got = ask(plan(node(bad), response={"kind": "field"}, hooks=Hooks(serialize_field=slowly)))
    assert got.body == b"slow"


def test_class_response() -> None:
    async def later(
        value: Any, status: Any, background: Any, request: Any, is_coroutine: bool
    ) -> Response:
        await asyncio.sleep(0)
        return PlainTextResponse(
            f"{value} {status} {is_coroutine}", status or 207, background=background
        )

    async def endpoint(response: Response) -> str:
        response.headers["x"] = "y"
        return "v"

    inject = [("response", "response")]
    made = plan(
        node(endpoint, inject=inject), response={"kind": "class"}, hooks=Hooks(make_response=later)
    )
    got = ask(made)
    assert (got.status, got.body) == (207, b"v None True")
    assert got.headers[-1] == (b"x", b"y")
    made = plan(
        node(endpoint, inject=inject),
        response={"kind": "class"},
        hooks=Hooks(make_response=later),
        status_code=204,
    )
    assert ask(made).body == b""


def test_what_c_cannot_encode_goes_to_the_hook() -> None:
    class Odd:
        pass

    hooks = Hooks(encode_json=lambda value: b"hook:" + type(value).__name__.encode())

    async def endpoint() -> Any:
        return Odd()

    assert ask(plan(node(endpoint), hooks=hooks)).body == b"hook:Odd"


def test_python_response() -> None:
    class More(Hooks):
        async def endpoint_response(self, request: Request, solved: Solved) -> Response:
            assert solved.values == {"q": "1"}
            assert solved.errors == []
            assert solved.response.status_code is None
            return PlainTextResponse("python")

    made = plan(
        node(nothing, "asyncgen", params=[param("q")]), response={"kind": "python"}, hooks=More()
    )
    assert not made.needs_stacks
    assert ask(made, b"q=1").body == b"python"
    with pytest.raises(Invalid):
        ask(made)


# -- respond and solve ------------------------------------------------------------------


def test_respond_gives_the_response_and_sends_nothing() -> None:
    ran: list[int] = []

    async def endpoint(tasks: BackgroundTasks, response: Response) -> Any:
        tasks.add_task(ran.append, 1)
        response.headers["x"] = "y"
        return {"a": 1}

    made = plan(
        node(endpoint, inject=[("tasks", "background"), ("response", "response")]), status_code=201
    )
    caller = Caller()
    response = run(made.respond(Request(caller.scope, caller.receive, caller.send)))
    assert isinstance(response, JSONResponse)
    assert (response.status_code, response.body, response.headers["x"]) == (201, b'{"a":1}', "y")
    assert (caller.sent, ran) == ([], [])


def test_respond_asks_a_custom_request() -> None:
    class Custom(Request):
        async def body(self) -> bytes:
            return b"raw"

        async def json(self) -> Any:
            return {"name": "custom"}

        @property
        def query_params(self) -> Any:
            return {"q": "mine"}

    async def endpoint(item: Item, q: str, request: Request) -> Any:
        return [item.name, q, type(request).__name__]

    made = plan(
        node(
            endpoint,
            params=[param("q")],
            body={"single": {"name": "item", **field(Item)}},
            inject=[("request", "request")],
        ),
        body="json",
    )
    caller = Caller(b"q=wire", JSON)
    response = run(made.respond(Custom(caller.scope, caller.receive)))
    assert response.body == b'["custom","mine","Custom"]'


def test_respond_reads_the_body_of_the_request_once() -> None:
    made = body_plan(fast=True)

    async def main() -> Any:
        caller = Caller(b"", JSON, body=[b'{"name":"a"}'])
        request = Request(caller.scope, caller.receive)
        await request.body()
        return await made.respond(request)

    assert run(main()).body == b'{"name":"a","price":1.0}'


def test_solve_for_websockets() -> None:
    async def dep(websocket: WebSocket) -> str:
        return type(websocket).__name__

    async def none(*args: Any) -> Any:
        raise AssertionError

    made = plan(
        node(dep, parent=1, name="dep", cache=0, inject=[("websocket", "websocket")]),
        node(None, params=[param("q", kind=int), param("h", "header"), param("c", "cookie")]),
    )
    scope = {
        "type": "websocket",
        "headers": [(b"h", b"1"), (b"cookie", b"c=2")],
        "query_string": b"q=3",
    }
    solved = run(made.solve(WebSocket(scope, none, none)))
    assert solved.values == {"dep": "WebSocket", "q": 3, "h": "1", "c": "2"}
    assert (solved.errors, solved.dependency_cache, solved.body) == ([], {0: "WebSocket"}, MISSING)
    assert solved.background_tasks is None
    with pytest.raises(RuntimeError, match="no endpoint"):
        ask(made, b"q=3", [(b"h", b"1"), (b"cookie", b"c=2")])


# -- errors and handlers ----------------------------------------------------------------


def test_exceptions_of_every_step_propagate() -> None:
    async def broken() -> None:
        raise LookupError("dep")

    def broken_sync() -> None:
        raise LookupError("sync")

    async def stop() -> None:
        raise LookupError from StopIteration(5)

    def stop_sync() -> None:
        raise StopIteration(5)

    for kind, func in [
        ("async", broken),
        ("sync", broken_sync),
        ("inline", broken_sync),
        ("async", stop),
    ]:
        with pytest.raises(LookupError):
            ask(plan(node(func, kind)))
        with pytest.raises(LookupError):
            ask(plan(node(func, kind, parent=1, cache=0), node(echo, "inline")))
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        ask(plan(node(stop_sync, "inline")))


def test_handle_error() -> None:
    seen: list[Any] = []

    class More(Hooks):
        def handle_error(self, request: Request, exc: Exception, started: bool) -> Any:
            seen.append((type(request), type(exc), started))
            if isinstance(exc, LookupError):
                return None
            if isinstance(exc, ZeroDivisionError):
                raise RuntimeError("handler") from exc

            async def handler() -> Response | None:
                assert sys.exc_info()[1] is exc
                await asyncio.sleep(0)
                assert sys.exc_info()[1] is exc
                if isinstance(exc, TypeError):
                    try:
                        raise TypeError("again")
                    finally:
                        assert sys.exc_info()[1].__context__ is exc
                if isinstance(exc, OSError):
                    return None
                return PlainTextResponse(
                    "handled", 418, background=BackgroundTask(seen.append, "background")
                )

            return handler()

    async def endpoint(q: str, request: Request) -> None:
        raise {
            "key": KeyError,
            "zero": ZeroDivisionError,
            "value": ValueError,
            "type": TypeError,
            "os": OSError,
        }[q]

    made = plan(node(endpoint, params=[param("q")], inject=[("request", "request")]), hooks=More())
    with pytest.raises(KeyError):
        ask(made, b"q=key")
    with pytest.raises(RuntimeError, match="handler"):
        ask(made, b"q=zero")
    with pytest.raises(TypeError, match="again"):
        ask(made, b"q=type")
    got = ask(made, b"q=value")
    assert (got.status, got.body) == (418, b"handled")
    assert seen[-1] == "background"
    assert ask(made, b"q=os").sent == []

    async def inside_an_except_block() -> None:
        try:
            raise BufferError
        except BufferError as outer:
            await call(made, b"q=value")
            assert sys.exc_info()[1] is outer
        assert sys.exc_info() == (None, None, None)

    run(inside_an_except_block())
    got = ask(made)
    assert got.status == 418
    assert seen[-2] == (Request, Invalid, False)


def test_handle_error_knows_that_the_response_has_started() -> None:
    seen = []

    class More(Hooks):
        def handle_error(self, request: Request, exc: Exception, started: bool) -> Any:
            seen.append(started)

    async def stream() -> Any:
        yield b"x"
        raise KeyError

    async def endpoint() -> Response:
        return StreamingResponse(stream())

    async def background(tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: {}["x"])

    with pytest.raises((KeyError, ExceptionGroup)):
        ask(plan(node(endpoint), hooks=More()), body=[b""])
    with pytest.raises(KeyError):
        ask(plan(node(background, inject=[("tasks", "background")]), hooks=More()))
    assert seen == [True, True]


def test_the_handlers_request_has_the_body() -> None:
    class More(Hooks):
        def handle_error(self, request: Request, exc: Exception, started: bool) -> Any:
            async def handler() -> Response:
                return PlainTextResponse(await request.body())

            return handler()

    assert ask(body_plan(fast=True, hooks=More()), b"", JSON, body=[b"{}"]).body == b"{}"


def test_operations_and_observation() -> None:
    log: list[Any] = []

    class Operation:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            log.append("+" + self.name)

        def __exit__(self, kind: Any, exc: Any, tb: Any) -> None:
            log.append("-" + self.name + (kind.__name__ if kind else ""))

    hooks = Hooks(
        operation=lambda name, function: (
            None if name == "serialization" and skip else Operation(name)
        ),
        observe=lambda what, value: log.append(what),
    )
    skip = False

    async def endpoint(item: Item) -> Any:
        if item.price > 5:
            raise LookupError
        return item.name

    single = {"single": {"name": "item", **field(Item)}}
    made = plan(node(endpoint, body=single), body="json", hooks=hooks)
    steps = [
        "request",
        "body",
        "+dependencies",
        "solved",
        "-dependencies",
        "+endpoint",
        "-endpoint",
    ]
    ask(made, b"", JSON, body=[b'{"name":"a"}'])
    assert log == [*steps, "+serialization", "-serialization"]
    log.clear()
    skip = True
    with pytest.raises(LookupError):
        ask(made, b"", JSON, body=[b'{"name":"a","price":6}'])
    assert log == [*steps[:-1], "-endpointLookupError"]


def test_a_patched_request_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(self: Request) -> bytes:
        return b'{"name":"patched"}'

    made = body_plan(fast=True)
    monkeypatch.setattr(Request, "body", body)
    assert ask(made, b"", JSON, body=[b'{"name":"wire"}']).json["name"] == "patched"
    monkeypatch.undo()
    assert ask(made, b"", JSON, body=[b'{"name":"wire"}']).json["name"] == "wire"
