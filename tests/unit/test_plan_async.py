"""A run as a coroutine: cancellation at every wait, contexts, what asyncio sees; no leaks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import sys
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
from plan_kit import Caller, Hooks, call, field, node, param, plan
from starlette.background import BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from turboapi._core import Plan

JSON = [(b"content-type", b"application/json")]


def run(coro: Any) -> Any:
    """Run it in a new loop."""

    async def main() -> Any:
        return await asyncio.wait_for(coro, 20)

    return asyncio.run(main())


class Gate:
    """Counts waits and blocks in the one of that number."""

    def __init__(self, stop: int) -> None:
        self.stop = stop
        self.count = 0
        self.blocked = asyncio.Event()
        self.undone: list[str] = []
        self.log: list[str] = []

    async def __call__(self, name: str = "") -> None:
        self.count += 1
        self.log.append(name)
        if self.count == self.stop:
            self.blocked.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.undone.append(name)
        await asyncio.sleep(0)


def everything(gate: Callable[..., Awaitable[None]]) -> Plan:
    """A plan that waits in each of its steps."""

    class Form(dict[str, Any]):
        async def close(self) -> None:
            await gate("close")

    class More(Hooks):
        async def read_form(self, request: Request) -> Any:
            await gate("read_form")
            return Form(a="1")

        async def solve_limited(self, index: int, values: Any) -> Any:
            await gate("limited")
            return "l"

        async def make_response(
            self, value: Any, status: Any, background: Any, request: Any, is_co: bool
        ) -> Response:  # type: ignore[override]
            await gate("make")
            return PlainTextResponse(value, background=background)

    async def extract(body: Any, values: Any) -> Any:
        await gate("extract")
        return dict(body), []

    async def dep() -> str:
        await gate("dep")
        return "d"

    async def generator() -> AsyncIterator[str]:
        await gate("generator")
        try:
            yield "g"
        finally:
            await gate("exit")

    async def inner() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await gate("function exit")

    async def endpoint(a: str, dep: str, gen: str, lim: str, tasks: BackgroundTasks) -> str:
        await gate("endpoint")
        tasks.add_task(gate, "background")
        return a + dep + gen + lim

    return plan(
        node(dep, parent=4, name="dep", cache=0),
        node(generator, "asyncgen", parent=4, name="gen", cache=1),
        node(inner, "asyncgen", parent=4, scope="function", cache=2),
        node(dep, parent=4, name="lim", cache=3, concurrency=object()),
        node(endpoint, body={"extract": extract, "names": ["a"]}, inject=[("tasks", "background")]),
        body="form",
        response={"kind": "class"},
        hooks=More(),
    )


STEPS = [
    "read_form",
    "dep",
    "generator",
    "limited",
    "extract",
    "endpoint",
    "make",
    "function exit",
    "",
    "",
    "background",
    "exit",
    "close",
]

GENERATORS = ("generator", "function exit", "exit")


def test_all_steps_wait() -> None:
    async def main() -> None:
        gate = Gate(0)
        caller = await call(everything(gate), suspend=gate)
        assert caller.body == b"1dgl"
        assert gate.count == len(STEPS)

    run(main())


@pytest.mark.parametrize("stop", range(1, len(STEPS) + 1))
@pytest.mark.parametrize("how", ["cancel", "timeout", "anyio", "close", "throw"])
def test_cancellation_at_each_wait(stop: int, how: str) -> None:
    async def main() -> None:
        async def when_blocked(func: Callable[[], Any]) -> None:
            await gate.blocked.wait()
            func()

        gate = Gate(stop)
        caller = Caller(suspend=gate)
        coro = caller.run(everything(gate))
        if how == "cancel":
            task = asyncio.ensure_future(coro)
            await gate.blocked.wait()
            task.cancel("why")
            with pytest.raises(asyncio.CancelledError, match="why"):
                await task
            assert task.cancelled()
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as timeout:
                    watcher = asyncio.ensure_future(when_blocked(lambda: timeout.reschedule(0)))
                    await coro
            await watcher
        elif how == "anyio":
            with anyio.CancelScope() as scope:
                watcher = asyncio.ensure_future(when_blocked(scope.cancel))
                await coro
            assert scope.cancelled_caught
            await watcher
        else:
            waited = coro.send(None)
            while not gate.blocked.is_set():
                if waited is not None:
                    waited._asyncio_future_blocking = False
                waited = coro.send(None)
            inside = STEPS.index("generator") + 1 < stop <= STEPS.index("background") + 1
            if how == "close" and inside:
                # an exit waits: as for any coroutine
                with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
                    coro.close()
                with pytest.raises(GeneratorExit):
                    while True:
                        coro.send(None)
            elif how == "close":
                coro.close()
                assert coro.cr_frame is None
            else:
                with pytest.raises((KeyError, HTTPException)):
                    coro.throw(KeyError("thrown"))
                    for _ in range(9):
                        coro.send(None)
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                coro.send(None)
        if sys.version_info >= (3, 12) or how != "close" or STEPS[stop - 1] not in GENERATORS:
            # 3.11 does not close a generator through what asks it for its next value
            assert gate.undone == [STEPS[stop - 1]]
        # what had been entered was left, unless that was being done
        exits = [name for name in gate.log if "exit" in name]
        assert exits == ["function exit", "exit"][: 2 * (stop > 3)]
        del coro

    run(main())


def test_throw_into_an_awaitable_without_throw() -> None:
    class Bare:
        def __await__(self) -> Any:
            return self

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return None

    made = plan(node(lambda: Bare()))
    coro = Caller().run(made)
    assert coro.send(None) is None
    assert coro.send(None) is None
    with pytest.raises(KeyError, match="x"):
        coro.throw(KeyError("x"))
    coro = Caller().run(made)
    coro.send(None)
    coro.close()


def test_throw_caught_by_the_endpoint() -> None:
    async def endpoint() -> str:
        try:
            await asyncio.sleep(10)
        except KeyError as exc:
            return str(exc)
        return "?"

    async def main() -> None:
        caller = Caller()
        coro = caller.run(plan(node(endpoint)))
        coro.send(None)
        with pytest.raises(StopIteration) as info:
            coro.throw(KeyError("x"))
        assert info.value.value is None
        assert caller.json == "'x'"

    run(main())


def test_close_ignored_is_an_error() -> None:
    class Stubborn:
        def __await__(self) -> Any:
            while True:
                try:
                    yield
                except GeneratorExit:
                    yield

    coro = Caller().run(plan(node(lambda: Stubborn())))
    coro.send(None)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        coro.close()


def test_throw_forms_and_misuse() -> None:
    made = plan(node(asyncio.sleep, params=[param("delay", kind=float)]))
    coro = Caller(b"delay=1").run(made)
    with pytest.raises(TypeError, match="can't send non-None value"):
        coro.send(1)
    with pytest.raises(TypeError):
        coro.throw()
    with pytest.raises(TypeError, match="deriving from BaseException"):
        coro.throw(5)
    with pytest.raises(KeyError):
        coro.throw(KeyError)
    for args in [
        (KeyError, KeyError("a")),
        (KeyError, "a"),
        (KeyError, ("a",), None),
        (KeyError("a"),),
    ]:
        with pytest.raises(KeyError, match="a"):
            Caller().run(made).throw(*args)
    unstarted = Caller().run(made)
    unstarted.close()
    unstarted.close()
    with pytest.raises(RuntimeError):
        unstarted.send(None)

    holder: list[Any] = []

    async def reenter() -> None:
        with pytest.raises(ValueError, match="already executing"):
            holder[0].send(None)
        with pytest.raises(ValueError, match="already executing"):
            holder[0].close()

    caller = Caller()
    holder.append(caller.run(plan(node(reenter))))
    run(holder[0])
    assert caller.body == b"null"


def test_not_awaitable() -> None:
    made = plan(node(lambda: 5))
    with pytest.raises(TypeError, match="object int can't be used in 'await' expression"):
        run(Caller().run(made))


def test_looks_like_a_coroutine() -> None:
    states = []

    async def endpoint() -> None:
        states.append(inspect.getcoroutinestate(coro))
        await asyncio.sleep(0)

    async def main() -> None:
        assert isinstance(coro, Coroutine)
        assert asyncio.iscoroutine(coro)
        assert inspect.isawaitable(coro)
        states.append(inspect.getcoroutinestate(coro))
        task = asyncio.ensure_future(coro)
        await asyncio.sleep(0)
        states.append(inspect.getcoroutinestate(coro))
        assert "endpoint" in repr(task)
        assert task.get_stack()[0].f_code.co_name == "endpoint"
        assert inspect.iscoroutine(coro.cr_await)
        await task
        states.append(inspect.getcoroutinestate(coro))
        assert coro.cr_await is None
        assert coro.cr_origin is None
        assert inspect.iscode(coro.cr_code)

    caller = Caller()
    coro = caller.run(plan(node(endpoint)))
    run(main())
    assert states == ["CORO_CREATED", "CORO_RUNNING", "CORO_SUSPENDED", "CORO_CLOSED"]


# -- inside nodes -----------------------------------------------------------------------


def test_current_task_timeouts_groups_and_scopes() -> None:
    async def dep() -> Any:
        task = asyncio.current_task()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(5)
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(5)
        assert scope.cancelled_caught
        return task

    async def endpoint(dep: Any) -> Any:
        assert asyncio.current_task() is dep
        async with asyncio.TaskGroup() as group:
            one = group.create_task(asyncio.sleep(0.001, "one"))
        async with anyio.create_task_group() as other:
            other.start_soon(anyio.sleep, 0.001)
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(5))
                raise KeyError
        return one.result()

    made = plan(node(dep, parent=1, name="dep", cache=0), node(endpoint))
    assert run(call(made)).json == "one"


def test_context_variables() -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")

    async def dep() -> None:
        var.set("dep")
        await asyncio.sleep(0)

    def sync() -> str:
        seen = var.get()
        var.set("sync")
        return seen

    async def endpoint(seen: str) -> Any:
        await asyncio.sleep(0)
        return [seen, var.get()]

    made = plan(
        node(dep, parent=2, name=None, cache=0),
        node(sync, "sync", parent=2, name="seen", cache=1),
        node(endpoint),
    )
    assert run(call(made)).json == ["dep", "dep"]


def test_many_at_once() -> None:
    async def endpoint(n: int) -> int:
        await asyncio.sleep(0.001 * (n % 7))
        return n

    made = plan(node(endpoint, params=[param("n", kind=int)]))

    async def main() -> None:
        callers = await asyncio.gather(*(call(made, f"n={n}".encode()) for n in range(300)))
        assert [caller.json for caller in callers] == list(range(300))

    run(main())


# -- leaks ------------------------------------------------------------------------------


def shapes() -> dict[str, Callable[[], Awaitable[None]]]:
    """Requests of all kinds, good and bad."""

    async def nothing() -> None:
        return None

    async def wait(a: int) -> Any:
        await asyncio.sleep(0)
        return {"a": a}

    async def broken() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    class More(Hooks):
        def handle_error(self, request: Any, exc: Exception, started: bool) -> Any:
            async def handler() -> Response:
                return PlainTextResponse("x")

            return handler()

    async def endpoint(
        dep: Any, item: Any, request: Any, response: Any, tasks: Any, h: str, c: str
    ) -> Any:
        response.headers["x"] = "y"
        tasks.add_task(nothing)
        return [dep, item]

    inject = [("request", "request"), ("response", "response"), ("tasks", "background")]
    full = plan(
        node(wait, parent=1, name="dep", cache=0, params=[param("a", kind=int)]),
        node(
            endpoint,
            params=[param("h", "header"), param("c", "cookie")],
            body={"single": {"name": "item", **field(dict[str, int])}},
            inject=inject,
        ),
        body="json",
        hooks=More(),
    )
    simple = plan(node(nothing))
    failing = plan(node(broken))
    steps = Gate(0)
    all_steps = everything(steps)

    async def good() -> None:
        await call(full, b"a=5", [*JSON, (b"h", b"1"), (b"cookie", b"c=2")], body=[b'{"a"', b":1}"])

    async def invalid() -> None:
        await call(full, b"a=x", JSON, body=[b'{"a":"x"}'])

    async def malformed() -> None:
        await call(full, b"a=1", JSON, body=[b"{"])

    async def constant() -> None:
        await call(simple)

    async def raising() -> None:
        with contextlib.suppress(KeyError):
            await call(failing)

    async def cancelled() -> None:
        task = asyncio.ensure_future(call(all_steps, suspend=steps))
        for _ in range(steps.count % 12):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def abandoned() -> None:
        coro = Caller().run(failing)
        coro.send(None)
        del coro

    async def never() -> None:
        Caller().run(failing)

    return {
        func.__name__: func
        for func in (good, invalid, malformed, constant, raising, cancelled, abandoned, never)
    }


@pytest.mark.parametrize("name", list(shapes()))
def test_no_leaks(name: str) -> None:
    count = 6000  # a free-threaded build keeps some 40 kB for itself

    async def main() -> None:
        # under a Task of its own each, so that nothing of the test's frames is counted
        async def rounds(n: int) -> None:
            for _ in range(n):
                await shape()

        shape = shapes()[name]
        await rounds(200)
        gc.collect()
        objects = len(gc.get_objects())
        references = sys.getrefcount(None), sys.getrefcount(JSON), sys.getrefcount(Request)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await rounds(count)
        gc.collect()
        gc.collect()  # free-threaded builds free what was left to it only now
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert len(gc.get_objects()) - objects < 50  # earlier tests may have left some to be freed
        now = sys.getrefcount(None), sys.getrefcount(JSON), sys.getrefcount(Request)
        assert all(abs(a - b) < 50 for a, b in zip(now, references, strict=True))
        assert used < count * 13  # the smallest object is 16 bytes

    run(main())


def test_what_a_run_holds_is_dropped_when_it_ends() -> None:
    class Thing:
        pass

    things: list[weakref.ref[Thing]] = []

    async def dep() -> Thing:
        thing = Thing()
        things.append(weakref.ref(thing))
        return thing

    async def endpoint(dep: Thing) -> None:
        del dep
        assert things[0]() is None or holds_cache
        await asyncio.sleep(0)

    holds_cache = True  # the dependency cache keeps it until the end
    coro = Caller().run(plan(node(dep, parent=1, name="dep", cache=0), node(endpoint)))
    run(coro)
    assert things[0]() is None
    assert coro.cr_frame is None


def test_cycles_through_a_suspended_run_are_collected() -> None:
    class Thing:
        pass

    async def endpoint() -> None:
        thing = Thing()
        thing.coro = holder.pop()  # type: ignore[attr-defined]
        refs.append(weakref.ref(thing))
        await Bare()

    class Bare:
        def __await__(self) -> Any:
            yield

    refs: list[Any] = []
    holder: list[Any] = []
    coro = Caller().run(plan(node(endpoint)))
    holder.append(coro)
    coro.send(None)
    del coro
    gc.collect()
    assert refs[0]() is None


@pytest.mark.parametrize("name", list(shapes()))
def test_requests_leave_nothing_to_the_collector(name: str) -> None:
    async def main() -> int:
        shape = shapes()[name]
        for _ in range(20):
            await shape()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await shape()
            return gc.collect()
        finally:
            gc.enable()

    assert run(main()) < 50
