"""Pooled Tasks: whatever a coroutine can observe is as in a Task of its own."""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import subprocess
import sys
import time
import types
import weakref

import anyio
import pytest

from turboapi import _core
from turboapi.loop import new_event_loop

var = contextvars.ContextVar("var", default="unset")


class Host:
    """A loop that our selector hosts; `run` gives (result, exception) of pooled Tasks."""

    def __init__(self, selector):
        self.selector = selector
        self.left = []

    async def run(self, *coros):
        """All are started in one batch; results in the order given."""
        results = [None] * len(coros)
        done = asyncio.Event()
        missing = len(coros)

        def finish(i, result, exc):
            nonlocal missing
            results[i] = (result, exc)
            missing -= 1
            if not missing:
                done.set()

        for i, coro in enumerate(coros):
            self.selector.spawn(coro, lambda r, e, i=i: finish(i, r, e))
        await asyncio.wait_for(done.wait(), 10)
        await asyncio.sleep(0)
        return results

    async def one(self, coro):
        result, exc = (await self.run(coro))[0]
        if exc is not None:
            raise exc
        return result


def uvloop_loop(_selector):
    return pytest.importorskip("uvloop").new_event_loop()


LOOPS = {"turboapi": new_event_loop, "asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop_loop}
loops = pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))


def hosted(test):
    """Turn `async def test(host)` into a test; nothing may reach the loop's exception handler."""

    @loops
    def run(new_loop):
        selector = _core.Selector()
        reported = []

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda loop, context: reported.append(context))
            selector.attach(loop)
            await asyncio.sleep(0)
            await test(Host(selector))

        with asyncio.Runner(loop_factory=lambda: new_loop(selector)) as runner:
            runner.run(main())
            if new_loop is uvloop_loop:  # which does not close it
                selector.close()
        gc.collect()
        assert reported == []

    run.__name__ = test.__name__
    return run


async def ident():
    return id(asyncio.current_task())


# -- what the first line sees ---------------------------------------------------------------------


@hosted
async def test_current_task_in_the_first_step_and_after(host):
    async def work():
        first = asyncio.current_task()
        assert isinstance(first, asyncio.Task)
        assert first.get_loop() is asyncio.get_running_loop()
        assert not first.done()
        await asyncio.sleep(0)
        assert asyncio.current_task() is first
        await asyncio.sleep(0.001)
        assert asyncio.current_task() is first
        assert first in asyncio.all_tasks()
        return first.get_name()

    assert (await host.one(work())).startswith("turboapi-")
    assert asyncio.current_task() in asyncio.all_tasks()


@hosted
async def test_idle_tasks_are_not_among_all_tasks(host):
    await host.run(*(ident() for _ in range(5)))
    await host.run(*(asyncio.sleep(0.001) for _ in range(5)))
    assert asyncio.all_tasks() == {asyncio.current_task()}


@hosted
async def test_a_task_is_used_again(host):
    ids = {await host.one(ident()) for _ in range(10)}
    assert len(ids) == 1

    async def waits():
        await asyncio.sleep(0.001)
        return id(asyncio.current_task())

    ids |= {await host.one(waits()) for _ in range(10)}
    ids |= {await host.one(ident()) for _ in range(10)}
    assert len(ids) <= 2


@hosted
async def test_an_idle_task_that_somebody_cancels_is_not_used_again(host):
    first = await host.one(ident())
    (idle,) = (each for each in gc.get_objects() if id(each) == first)
    running = asyncio.ensure_future(host.run(ident(), ident()))
    await asyncio.sleep(0)  # they are to be started in the next batch
    assert idle.cancel()
    ends = asyncio.gather(idle, return_exceptions=True)
    results = await running
    assert first not in [result for result, _ in results]
    assert isinstance((await ends)[0], asyncio.CancelledError)
    assert idle.cancelled()


@hosted
async def test_concurrent_ones_have_tasks_of_their_own(host):
    async def work():
        await asyncio.sleep(0.01)
        return id(asyncio.current_task())

    results = await host.run(*(work() for _ in range(50)))
    assert len({result for result, _ in results}) == 50


# -- coroutines of one batch are run in one step of a Task ----------------------------------------


@hosted
async def test_those_of_a_batch_share_a_task_and_nothing_else(host):
    async def work(n):
        assert var.get() == "unset"
        var.set(n)
        return id(asyncio.current_task()), contextvars.copy_context()

    results = [result for result, _ in await host.run(*(work(n) for n in range(10)))]
    if sys.version_info >= (3, 12) or len({task for task, _ in results}) < 10:
        assert len({task for task, _ in results}) == 1
    assert [context[var] for _, context in results] == list(range(10))


@hosted
async def test_those_of_a_batch_begin_in_order(host):
    begun = []

    async def work(n):
        begun.append(n)
        if n % 3 == 0:
            await asyncio.sleep(0)
        if n % 4 == 0:
            raise ValueError
        return n

    results = await host.run(*(work(n) for n in range(20)))
    assert begun == list(range(20))
    assert [result for result, _ in results] == [n if n % 4 else None for n in range(20)]


@hosted
async def test_one_of_a_batch_that_waits_keeps_its_task(host):
    gate = asyncio.Event()
    waiting = {}

    async def work(n):
        task = asyncio.current_task()
        assert task not in waiting.values()
        if n % 2:
            waiting[n] = task
            await gate.wait()
            assert asyncio.current_task() is task
            assert waiting.pop(n) is task
        return n

    running = asyncio.ensure_future(host.run(*(work(n) for n in range(10))))
    while len(waiting) < 5:
        await asyncio.sleep(0.001)
    assert len(set(waiting.values())) == 5
    assert set(waiting.values()) < asyncio.all_tasks()
    gate.set()
    assert await running == [(n, None) for n in range(10)]


@hosted
async def test_a_cancellation_is_not_left_to_the_next_of_the_batch(host):
    async def cancels():
        asyncio.current_task().cancel()

    async def takes_back():
        task = asyncio.current_task()
        task.cancel()
        task.uncancel()

    async def waits():
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0.001)
        return "not cancelled"

    results = await host.run(waits(), cancels(), waits(), takes_back(), waits(), cancels())
    assert [result for result, _ in results[::2]] == ["not cancelled"] * 3


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit])
@loops
def test_what_ends_the_loop_leaves_the_rest_of_the_batch(what, new_loop):
    selector = _core.Selector()
    loop = new_loop(selector)
    loop.set_exception_handler(lambda loop, context: None)  # nobody asks the Task
    ended = []

    async def work(n):
        if n == 2:
            raise what
        ended.append(n)

    async def main():
        selector.attach(asyncio.get_running_loop())
        for n in range(5):
            selector.spawn(work(n))
        await asyncio.sleep(5)

    with contextlib.closing(loop):
        with contextlib.suppress(what):
            loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        if new_loop is uvloop_loop:
            selector.close()
    assert sorted(ended) == [0, 1, 3, 4]


@hosted
async def test_a_long_batch_lets_the_loop_have_its_turn(host):
    order = []

    async def work(n):
        if n == 0:
            asyncio.get_running_loop().call_soon(order.append, "callback")
        end = time.monotonic() + 0.003
        while time.monotonic() < end:
            pass
        order.append(n)

    await host.run(*(work(n) for n in range(20)))
    assert [n for n in order if n != "callback"] == list(range(20))
    assert order.index("callback") < 10


@hosted
async def test_nobody_else_is_stepped_within_a_batch(host):
    future = asyncio.get_running_loop().create_future()
    seen = []

    async def other():
        await future
        seen.append("other")
        return asyncio.current_task()

    async def completes():
        future.set_result(None)
        seen.append("completes")

    async def follows():
        seen.append("follows")
        return asyncio.current_task()

    running = asyncio.ensure_future(other())
    await asyncio.sleep(0)
    results = await host.run(completes(), follows())
    assert await running is not results[1][0]
    assert seen == ["completes", "follows", "other"]


# -- a Task that somebody could tell from a new one is not used again -----------------------------


def marks():
    kept = []
    refs = weakref.WeakKeyDictionary()

    async def by_reference(task):
        kept.append(task)

    async def by_weak_reference(task):
        refs[task] = 1

    async def by_name(task):
        task.set_name("mine")

    async def by_callback(task):
        task.add_done_callback(lambda task: None)

    async def by_attribute(task):
        task.mine = 1

    async def by_cancel(task):
        task.cancel()

    async def by_swallowed_cancel(task):
        asyncio.get_running_loop().call_soon(task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)

    return [value for value in locals().values() if inspect.iscoroutinefunction(value)]


@pytest.mark.parametrize("mark", marks(), ids=lambda f: f.__name__)
@pytest.mark.parametrize("wait", [False, True])
@loops
def test_marked_tasks_are_not_used_again(mark, wait, new_loop):
    @hosted
    async def test(host):
        async def work():
            task = asyncio.current_task()
            if wait:
                await asyncio.sleep(0.001)
            await mark(task)

        async def look():
            task = asyncio.current_task()
            assert not task.cancelling()
            assert not hasattr(task, "mine")
            assert task.get_name().startswith("turboapi-")
            return weakref.ref(task)

        await host.one(look())
        await host.run(work())
        for _ in range(3):
            await host.one(look())
        # in the same batch too
        results = await host.run(look(), work(), look(), work(), look())
        assert [exc for _, exc in results[::2]] == [None, None, None]

    test(new_loop)


@hosted
async def test_a_kept_task_ends_as_tasks_do(host):
    kept = []

    async def work(wait):
        kept.append(asyncio.current_task())
        if wait:
            await asyncio.sleep(0.001)
        kept[-1].add_done_callback(kept.append)
        return 5

    for wait in (False, True):
        kept.clear()
        assert await host.one(work(wait)) == 5
        await asyncio.sleep(0.01)
        assert kept[0].done()
        assert not kept[0].cancelled()
        assert kept[1] is kept[0]


# -- results and exceptions -----------------------------------------------------------------------


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(
    "what", [ValueError, asyncio.CancelledError, GeneratorExit, StopAsyncIteration]
)
@loops
def test_exceptions_come_out(wait, what, new_loop):
    @hosted
    async def test(host):
        async def work():
            if wait:
                await asyncio.sleep(0.001)
            raise what("x")

        for _ in range(3):
            ((_, exc),) = await host.run(work())
            assert type(exc) is what
            assert exc.args == ("x",)
        assert await host.one(ident())

    test(new_loop)


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("wait", [False, True])
def test_fatal_exceptions_end_the_loop(what, wait):
    selector = _core.Selector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.set_exception_handler(lambda loop, context: None)  # nobody asks the Task

    async def work():
        if wait:
            await asyncio.sleep(0.001)
        raise what

    async def main():
        selector.attach(loop)
        selector.spawn(work())
        await asyncio.sleep(5)

    try:
        with pytest.raises(what):
            loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


@hosted
async def test_tuple_and_exception_as_result(host):
    async def give(value, wait):
        if wait:
            await asyncio.sleep(0)
        return value

    for value in ((1, 2), ValueError("a value"), StopIteration(3), None):
        for wait in (False, True):
            assert await host.one(give(value, wait)) is value


@hosted
async def test_awaitables_that_are_no_coroutines(host):
    class Thing:
        def __await__(self):
            yield from asyncio.sleep(0.001).__await__()
            return 6

    @types.coroutine
    def generator():
        yield
        return 7

    assert await host.one(Thing().__await__()) == 6
    assert await host.one(generator()) == 7


@hosted
async def test_bad_yield_is_thrown_back(host):
    @types.coroutine
    def bad():
        with pytest.raises(RuntimeError, match="Task got bad yield"):
            yield 5
        return "survived"

    async def work():
        return await bad()

    assert await host.one(work()) == "survived"


# -- cancellation ---------------------------------------------------------------------------------


@hosted
async def test_cancel_in_the_first_step_hits_the_first_wait(host):
    async def work():
        task = asyncio.current_task()
        assert task.cancel("why")
        assert task.cancelling() == 1
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError as exc:
            assert exc.args == ("why",)
            assert task.uncancel() == 0
            await asyncio.sleep(0.001)
            return "went on"

    assert await host.one(work()) == "went on"


@hosted
async def test_cancel_by_another_task(host):
    tasks = []

    async def work(swallow):
        tasks.append(asyncio.current_task())
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            if not swallow:
                raise
            return "swallowed"

    running = asyncio.ensure_future(host.run(work(False), work(True)))
    await asyncio.sleep(0.01)
    for task in tasks:
        assert task.cancel()
    (_, exc), (result, _) = await running
    assert isinstance(exc, asyncio.CancelledError)
    assert result == "swallowed"
    await asyncio.sleep(0.01)
    assert tasks[0].cancelled()
    assert tasks[1].done()
    assert not tasks[1].cancelled()


@hosted
async def test_cancel_all(host):
    running = asyncio.ensure_future(host.run(*(asyncio.sleep(10) for _ in range(5))))
    await asyncio.sleep(0.01)
    for task in asyncio.all_tasks():
        if task.get_name().startswith("turboapi-"):
            task.cancel()
    assert all(isinstance(exc, asyncio.CancelledError) for _, exc in await running)
    assert await host.one(ident())


@hosted
async def test_timeout(host):
    async def work(inner, outer):
        try:
            async with asyncio.timeout(outer):
                await asyncio.sleep(inner)
                return "in time"
        except TimeoutError:
            assert asyncio.current_task().cancelling() == 0
            return "late"

    for _ in range(3):
        assert await host.run(work(0, 1), work(0.001, 1), work(1, 0.001), work(1, 0)) == [
            ("in time", None), ("in time", None), ("late", None), ("late", None),
        ]  # fmt: skip


@hosted
async def test_wait_for_gather_shield(host):
    async def work():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1), 0.001)
        inner = asyncio.ensure_future(asyncio.sleep(0.01, "inner"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(inner), 0.001)
        return await asyncio.gather(inner, asyncio.sleep(0, 2))

    assert await host.one(work()) == ["inner", 2]


@hosted
async def test_task_group(host):
    async def fails():
        await asyncio.sleep(0.001)
        raise ValueError("child")

    async def work(child):
        async with asyncio.TaskGroup() as tg:
            task = tg.create_task(asyncio.sleep(0.002, 5))
            if child is not None:
                tg.create_task(child())
        return task.result()

    (good, bad) = await host.run(work(None), work(fails))
    assert good == (5, None)
    assert [str(exc) for exc in bad[1].exceptions] == ["child"]


@hosted
async def test_anyio(host):
    async def work():
        async with anyio.create_task_group() as tg:
            tg.start_soon(anyio.sleep, 0.001)
            with anyio.move_on_after(0.001) as scope:
                await anyio.sleep(1)
            assert scope.cancelled_caught
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep(1)
            assert scope.cancelled_caught
            tg.start_soon(anyio.sleep, 10)
            tg.cancel_scope.cancel()
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.001):
                await anyio.sleep(1)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0)
        assert anyio.get_current_task().id == id(asyncio.current_task())
        return await anyio.to_thread.run_sync(lambda: 7)

    for _ in range(3):
        assert await host.one(work()) == 7


@hosted
async def test_anyio_cancels_from_the_first_line(host):
    async def work():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        return scope.cancelled_caught

    assert await host.one(work()) is True


# -- contextvars ----------------------------------------------------------------------------------


@hosted
async def test_contexts_are_apart(host):
    async def work(n):
        seen = [var.get()]
        var.set(n)
        await asyncio.sleep(0.001)
        seen.append(var.get())
        await asyncio.create_task(check(n))
        return seen

    async def check(n):
        assert var.get() == n
        var.set("child")

    results = await host.run(*(work(n) for n in range(5)))
    assert [r for r, _ in results] == [["unset", n] for n in range(5)]
    assert await host.one(work("again")) == ["unset", "again"]
    assert var.get() == "unset"


@hosted
async def test_token_can_be_reset_after_a_wait(host):
    async def work():
        token = var.set(1)
        await asyncio.sleep(0.001)
        var.reset(token)
        return var.get()

    assert await host.one(work()) == "unset"


# -- introspection --------------------------------------------------------------------------------


@hosted
async def test_introspection(host):
    waits, go_on = asyncio.Event(), asyncio.Event()

    async def work():
        task = asyncio.current_task()
        coro = task.get_coro()
        assert asyncio.iscoroutine(coro)
        assert coro.__name__ == "work"
        assert inspect.getcoroutinestate(coro) == coro.cr_state == inspect.CORO_RUNNING
        task.get_stack()
        task.print_stack(file=types.SimpleNamespace(write=lambda text: None))
        assert "work" in repr(task)
        waits.set()
        await go_on.wait()
        return "fine"

    running = asyncio.ensure_future(host.one(work()))
    await waits.wait()
    (task,) = (t for t in asyncio.all_tasks() if t.get_name().startswith("turboapi-"))
    coro = task.get_coro()
    assert inspect.getcoroutinestate(coro) == inspect.CORO_SUSPENDED
    assert coro.cr_state == inspect.CORO_SUSPENDED  # which Python 3.15 looks at
    assert coro.cr_await is not None
    assert task.get_stack()[0].f_code.co_name == "work"
    assert "work" in repr(task)
    go_on.set()
    assert await running == "fine"


@hosted
async def test_loop_debug_mode(host):
    asyncio.get_running_loop().set_debug(True)

    async def work():
        await asyncio.sleep(0.001)
        return repr(asyncio.current_task())

    await host.one(ident())
    assert "work" in await host.one(work())


# -- task factories -------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@loops
def test_eager_task_factory_of_the_application(new_loop):
    if new_loop is uvloop_loop:
        pytest.skip("uvloop hands such a factory arguments that it does not take")

    @hosted
    async def test(host):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def work():
            return await asyncio.gather(*(asyncio.create_task(ident()) for _ in range(3)))

        assert len(await host.one(work())) == 3

    test(new_loop)


# -- leaks ----------------------------------------------------------------------------------------


@hosted
async def test_nothing_is_left_behind(host):
    class Thing:
        pass

    alive = weakref.WeakSet()

    async def work(wait, fail):
        thing = Thing()
        alive.add(thing)
        if wait:
            await asyncio.sleep(0)
            await asyncio.sleep(0.0001)
        if fail:
            raise ValueError
        return thing

    async def round():
        await host.run(*(work(n % 2, n % 3 == 0) for n in range(30)))

    for _ in range(3):
        await round()
    gc.collect()
    assert len(alive) == 0
    before = len(gc.get_objects())
    for _ in range(10):
        await round()
    gc.collect()
    assert len(gc.get_objects()) - before < 100


# -- what asyncio may lack -------------------------------------------------------------------------

PRIVATE_NAMES = """
import asyncio, asyncio.tasks, gc, sys, urllib.request
what = sys.argv[1]
if what == "tasks":  # made in Python: no descriptors
    asyncio.Task = asyncio.tasks.Task = asyncio.tasks._PyTask
    if sys.version_info >= (3, 14):  # what is in C only knows Tasks in C
        for name in ("current_task", "all_tasks", "_enter_task", "_leave_task"):
            for module in (asyncio, asyncio.tasks):
                if hasattr(module, name):
                    setattr(module, name, getattr(asyncio.tasks, "_py_" + name.lstrip("_")))
elif what == "loop":
    del asyncio._get_running_loop
elif what == "fails":
    unregister, calls = asyncio.tasks._unregister_task, []
    def fail(task):
        calls.append(task)
        if len(calls) in (1, 2):
            raise RuntimeError("at first it fails")
        unregister(task)
    asyncio.tasks._unregister_task = fail
else:
    delattr(asyncio.tasks, what)

from turboapi import FastAPI, _core
from turboapi._compile.native_app import native_app
import socket

app = FastAPI()
seen = set()

@app.get("/")
async def index():
    task = asyncio.current_task()
    assert isinstance(task, asyncio.Task), task
    seen.add(task.get_name())
    await asyncio.sleep(0.001)
    assert task in asyncio.all_tasks()
    return "ok"

async def main(selector):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: print(context, flush=True))
    selector.attach(loop)
    server = _core.Server(selector, native_app(app))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    url = "http://127.0.0.1:%d/" % listener.getsockname()[1]
    server.listen(listener.detach())

    def ask():
        try:
            return urllib.request.urlopen(url, timeout=20).read().decode()
        except urllib.error.HTTPError as error:
            return error.code

    answers = [await asyncio.to_thread(ask) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    server.close()
    print(*answers, len(left), "pooled" if len(seen) < answers.count('"ok"') else "apart")

selector = _core.Selector()
with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
    runner.run(main(selector))
selector.close()
"""


def run_without(what):
    command = [sys.executable, "-c", PRIVATE_NAMES, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "Task was destroyed" not in done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("what", ["tasks", "_register_task", "_unregister_task"])
def test_without_private_names_of_asyncio_each_request_has_a_task(what):
    assert run_without(what) == " ".join(['"ok"'] * 5) + " 0 apart"


def test_running_loop_by_its_public_name():
    assert run_without("loop") == " ".join(['"ok"'] * 5) + " 0 pooled"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 has made its Tasks before")
def test_a_task_that_cannot_be_made_leaves_nothing():
    assert run_without("fails") == '500 500 "ok" "ok" "ok" 0 pooled'
