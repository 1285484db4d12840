"""Dependencies with `yield`: what a run does with them against contextlib's exit stacks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
from plan_kit import Caller, Hooks, Swallowed, call, node, param, plan
from starlette.background import BackgroundTasks
from starlette.responses import PlainTextResponse, Response

from turboapi.concurrency import contextmanager_in_threadpool

Log = list[str]

BEHAVIOURS = [
    "plain",
    "swallow",
    "reraise",
    "replace",
    "replace from none",
    "raise in finally",
    "fail at first",
    "no yield",
]
# Older contextlibs (3.11.2) do not close a generator that has not stopped: it ends when nobody
# refers to it any more, at whatever moment that is.
if "close" in contextlib._GeneratorContextManager.__exit__.__code__.co_names:
    BEHAVIOURS.append("two yields")


def make_async(name: str, behaviour: str, log: Log) -> Callable[[], AsyncIterator[str]]:
    async def generator() -> AsyncIterator[str]:
        log.append(f"{name} enters")
        if behaviour == "fail at first":
            raise LookupError(name)
        if behaviour == "no yield":
            return
        try:
            yield name
            log.append(f"{name} goes on")
            if behaviour == "two yields":
                yield name
        except BaseException as exc:
            log.append(f"{name} sees {exc!r}")
            if behaviour == "replace":
                raise ArithmeticError(name) from exc
            if behaviour == "replace from none":
                raise ArithmeticError(name) from None
            if behaviour == "two yields" and not isinstance(exc, GeneratorExit):
                yield name
            if behaviour != "swallow":
                raise
        finally:
            await asyncio.sleep(0)
            log.append(f"{name} leaves")
            if behaviour == "raise in finally":
                raise BufferError(name)

    return generator


def make_sync(name: str, behaviour: str, log: Log) -> Callable[[], Iterator[str]]:
    def generator() -> Iterator[str]:
        log.append(f"{name} enters")
        if behaviour == "fail at first":
            raise LookupError(name)
        if behaviour == "no yield":
            return
        try:
            yield name
            log.append(f"{name} goes on")
            if behaviour == "two yields":
                yield name
        except BaseException as exc:
            log.append(f"{name} sees {exc!r}")
            if behaviour == "replace":
                raise ArithmeticError(name) from exc
            if behaviour == "replace from none":
                raise ArithmeticError(name) from None
            if behaviour == "two yields" and not isinstance(exc, GeneratorExit):
                yield name
            if behaviour != "swallow":
                raise
        finally:
            log.append(f"{name} leaves")
            if behaviour == "raise in finally":
                raise BufferError(name)

    return generator


def describe(exc: BaseException | None, contexts: bool) -> Any:
    """Type, text, cause and context of an exception and of those behind it."""
    if exc is None:
        return None
    return (
        type(exc).__name__,
        str(exc),
        describe(exc.__cause__, contexts),
        describe(exc.__context__, contexts) if contexts else None,
        exc.__suppress_context__,
    )


async def outcome(coro: Any, log: Log, makers: list[Any]) -> Any:
    # What is raised in a thread gets the context of where it happens to be raised again.
    contexts = all(kind == "asyncgen" for kind, *_ in makers)
    try:
        await coro
    except Exception as exc:
        return log, describe(exc, contexts)
    return log, None


class Endpoint:
    """An endpoint and its background task, which fail or not."""

    def __init__(self, fails: str, log: Log) -> None:
        self.fails = fails
        self.log = log

    async def endpoint(self, tasks: BackgroundTasks) -> str:
        tasks.add_task(self.background)
        self.log.append("endpoint")
        if self.fails == "endpoint":
            raise KeyError("endpoint")
        return "value"

    def background(self) -> None:
        self.log.append("background")
        if self.fails == "background":
            raise KeyError("background")


async def reference(makers: list[Any], scopes: list[str], fails: str) -> Any:
    """Return what FastAPI does, with two stacks."""
    log: Log = []
    end = Endpoint(fails, log)

    async def route() -> None:
        done = False
        async with AsyncExitStack() as request_stack:
            answered = False
            async with AsyncExitStack() as function_stack:
                for i, (kind, maker, behaviour) in enumerate(makers):
                    generator: Any = maker(f"g{i}", behaviour, log)
                    cm = (
                        asynccontextmanager(generator)()
                        if kind == "asyncgen"
                        else contextmanager_in_threadpool(contextmanager(generator)())
                    )
                    stack = function_stack if scopes[i] == "function" else request_stack
                    await stack.enter_async_context(cm)
                tasks = BackgroundTasks()
                await end.endpoint(tasks)
                answered = True
            if not answered:
                raise Swallowed
            log.append("sent")
            await tasks()
            done = True
        if not done:
            raise Swallowed

    return await outcome(route(), log, makers)


async def ours(makers: list[Any], scopes: list[str], fails: str) -> Any:
    log: Log = []
    end = Endpoint(fails, log)
    nodes = [
        node(maker(f"g{i}", behaviour, log), kind, parent=len(makers), cache=i, scope=scopes[i])
        for i, (kind, maker, behaviour) in enumerate(makers)
    ]
    made = plan(*nodes, node(end.endpoint, inject=[("tasks", "background")]))

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            log.append("sent")

    return await outcome(made.asgi(Caller().scope, Caller().receive, send), log, makers)


KINDS = [("asyncgen", make_async), ("gen", make_sync)]


@pytest.mark.parametrize("fails", ["", "endpoint", "background"])
@pytest.mark.parametrize("scopes", [*itertools.product(["function", "request"], repeat=2)])
@pytest.mark.parametrize("kinds", [*itertools.product(KINDS, repeat=2)])
def test_two_generators(fails: str, scopes: tuple[str, str], kinds: Any) -> None:
    async def main() -> None:
        for first, second in itertools.product(BEHAVIOURS, repeat=2):
            makers = [(*kinds[0], first), (*kinds[1], second)]
            expected = await reference(makers, list(scopes), fails)
            assert await ours(makers, list(scopes), fails) == expected, (first, second)

    asyncio.run(main())


def test_values_and_order_of_scopes() -> None:
    log: Log = []

    async def endpoint(a: str, b: str, response: Response) -> Any:
        response.headers["x"] = "1"
        return [a, b]

    made = plan(
        node(make_async("a", "plain", log), "asyncgen", parent=2, name="a", cache=0),
        node(make_sync("b", "plain", log), "gen", parent=2, name="b", cache=1, scope="function"),
        node(endpoint, inject=[("response", "response")]),
        status_code=201,
    )

    async def main() -> Caller:
        return await call(made)

    got = asyncio.run(main())
    assert (got.status, got.json) == (201, ["a", "b"])
    assert (b"x", b"1") in got.headers
    assert log == [
        "a enters",
        "b enters",
        "b goes on",
        "b leaves",
        "a goes on",
        "a leaves",
    ]


def test_a_response_object_waits_for_the_function_scope() -> None:
    log: Log = []

    async def endpoint() -> Response:
        return PlainTextResponse("x")

    made = plan(
        node(make_async("a", "plain", log), "asyncgen", parent=1, cache=0, scope="function"),
        node(endpoint),
    )
    assert asyncio.run(call(made)).body == b"x"
    assert log[-1] == "a leaves"


def test_handlers_see_what_the_exits_made_of_it() -> None:
    log: Log = []
    seen: list[Any] = []

    class More(Hooks):
        def handle_error(self, request: Any, exc: Exception, started: bool) -> Any:
            log.append("handler")
            seen.append(type(exc))

            async def handler() -> Response:
                return PlainTextResponse("handled")

            return handler()

    async def endpoint(q: str) -> None:
        raise KeyError

    made = plan(
        node(make_async("a", "replace", log), "asyncgen", parent=1, cache=0),
        node(endpoint, params=[param("q")]),
        hooks=More(),
    )
    assert asyncio.run(call(made, b"q=1")).body == b"handled"
    assert asyncio.run(call(made)).body == b"handled"  # and a validation error
    assert seen == [ArithmeticError, ArithmeticError]
    assert log[-2:] == ["a leaves", "handler"]


def test_exits_are_shielded_from_scopes_round_the_application() -> None:
    log: Log = []

    async def generator() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await anyio.sleep(0.01)
            log.append("left")

    class More(Hooks):
        def open_generator(self, index: int, values: dict[str, Any], scope: Any) -> Any:
            from turboapi.concurrency import _asynccontextmanager_with_shielded_exit as shielded

            assert isinstance(scope, anyio.CancelScope)
            return shielded(super().open_generator(index, values, scope), scope)

    async def endpoint() -> None:
        outer.cancel()
        await anyio.sleep(10)

    made = plan(node(generator, "asyncgen", parent=1, cache=0), node(endpoint), hooks=More())

    async def main() -> None:
        nonlocal outer
        with anyio.CancelScope() as outer:
            await call(made)
        assert outer.cancelled_caught

    outer: Any = None
    asyncio.run(main())
    assert log == ["left"]
