"""anyio.to_thread and what stands on it: on our loop as on the standard one."""

import asyncio
import contextvars
import functools
import gc
import logging
import threading
import weakref

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import patience
import pytest
from anyio._backends import _asyncio as backend
from loop_threads_kit import Gate, is_ours, loop, output_of, run, until
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from turboapi import _core, _loop_threads
from turboapi.loop import new_event_loop

__all__ = ["loop"]

variable = contextvars.ContextVar("variable", default="unset")
run_sync = anyio.to_thread.run_sync


def thread():
    return threading.current_thread()


def fail(error):
    raise error


async def uses_our_threads():
    return type(await run_sync(thread)) is threading.Thread


# -- results --------------------------------------------------------------------------------------


def test_results(loop):
    async def main():
        assert await run_sync(lambda *args: args, 1, 2, 3, 4) == (1, 2, 3, 4)
        assert await run_in_threadpool(dict, a=1) == {"a": 1}
        assert [item async for item in iterate_in_threadpool(iter("abc"))] == ["a", "b", "c"]
        assert (await run_sync(thread)).name == "AnyIO worker thread"
        assert not (await run_sync(thread)).daemon
        assert await uses_our_threads() is is_ours(loop)

    run(loop, main())


@pytest.mark.parametrize("error", [ValueError("x"), KeyError(1), BaseException("b")])
def test_exceptions(loop, error):
    async def main():
        with pytest.raises(type(error)) as raised:
            await run_sync(fail, error)
        assert raised.value is error

    run(loop, main())


def test_stop_iteration(loop):
    async def main():
        with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as raised:
            await run_sync(next, iter(()))
        assert isinstance(raised.value.__cause__, StopIteration)

    run(loop, main())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_exceptions_that_end_the_loop(loop, error):
    async def main():
        await run_sync(fail, error)

    task = loop.create_task(main())
    with pytest.raises(type(error)):
        loop.run_until_complete(task)
    assert task.exception() is error


def test_one_thread_is_enough_for_one_call_at_a_time(loop):
    async def main():
        idents = {(await run_sync(thread)).ident for _ in range(50)}
        assert len(idents) == 1

    run(loop, main())


# -- context --------------------------------------------------------------------------------------


def test_context_variables(loop):
    def swap():
        before = variable.get()
        variable.set("thread")
        return before

    async def main():
        variable.set("task")
        assert await run_sync(swap) == "task"
        assert await run_sync(swap) == "task"
        assert variable.get() == "task"

    run(loop, main())


def test_no_library_is_current_in_a_thread(loop):
    sniffio = pytest.importorskip("sniffio")

    def ask():
        with pytest.raises(sniffio.AsyncLibraryNotFoundError):
            sniffio.current_async_library()
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return True

    async def main():
        assert await run_sync(ask)
        assert sniffio.current_async_library() == "asyncio"

    run(loop, main())


def test_from_thread(loop):
    async def inner(value):
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loop
        variable.set("inner")
        return value, await run_sync(abs, -value)

    def call():
        assert anyio.from_thread.run_sync(asyncio.get_running_loop) is loop
        return anyio.from_thread.run(inner, 3)

    async def main():
        assert await run_sync(call) == (3, 3)
        with pytest.raises(RuntimeError, match="not running|Not running"):
            anyio.from_thread.run_sync(int)

    run(loop, main())


def test_blocking_portal(loop):
    async def main():
        async with anyio.from_thread.BlockingPortal() as portal:
            assert await run_sync(portal.call, abs, -1) == 1

    run(loop, main())


# -- limits ---------------------------------------------------------------------------------------


def test_the_default_limiter(loop):
    async def main():
        gate = Gate()
        limiter = anyio.to_thread.current_default_thread_limiter()
        assert limiter.total_tokens == 40
        async with anyio.create_task_group() as group:
            for _ in range(45):
                group.start_soon(run_sync, gate.hold)
            await gate.reached(40)
            await asyncio.sleep(0.02)
            assert gate.inside == limiter.borrowed_tokens == 40
            assert limiter.statistics().tasks_waiting == 5
            limiter.total_tokens = 42
            await gate.reached(42)
            gate.open()
        assert gate.most == 42
        assert gate.made == 45
        assert limiter.borrowed_tokens == 0

    run(loop, main())


def test_another_limiter(loop):
    async def main():
        gate, limiter = Gate(), anyio.CapacityLimiter(2)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(functools.partial(run_sync, gate.hold, limiter=limiter))
            await gate.reached(2)
            assert limiter.borrowed_tokens == 2
            assert await run_sync(abs, -1) == 1  # the other one is free
            gate.open()
        assert gate.most == 2
        unlimited, gate = anyio.CapacityLimiter(float("inf")), Gate()
        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(functools.partial(run_sync, gate.hold, limiter=unlimited))
            await gate.reached(60)
            gate.open()

    run(loop, main())


# -- cancellation ---------------------------------------------------------------------------------


def test_a_scope_waits_for_the_call(loop):
    async def main():
        gate = Gate()
        with anyio.CancelScope() as scope:
            task = asyncio.current_task()
            loop.call_later(0.01, scope.cancel)
            loop.call_later(0.05, gate.open)
            assert await run_sync(gate.hold, "made") == "made"
            assert task is asyncio.current_task()
            await anyio.sleep(10)
        assert scope.cancelled_caught
        assert gate.made == 1

    run(loop, main())


def test_abandon_on_cancel(loop):
    async def main():
        gate = Gate()
        with anyio.CancelScope() as scope:
            leave = asyncio.create_task(gate.reached(1))  # a thread that starts later never runs it
            leave.add_done_callback(lambda _: scope.cancel())
            await run_sync(gate.hold, abandon_on_cancel=True)
        assert scope.cancelled_caught
        await leave
        assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        gate.open()
        await until(lambda: gate.inside == 0)

    run(loop, main())


def test_the_task_itself_is_cancelled(loop):
    async def main():
        gate = Gate()
        task = asyncio.create_task(run_sync(gate.hold))
        await gate.reached(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        await until(lambda: gate.inside == 0)
        assert await run_sync(abs, -1) == 1

    run(loop, main())


def test_check_cancelled(loop):
    async def main():
        seen, begun = [], threading.Event()

        def call():
            anyio.from_thread.check_cancelled()
            begun.set()
            for _ in range(int(patience.seconds(10) / 0.005)):
                try:
                    anyio.from_thread.check_cancelled()
                except BaseException as error:
                    seen.append(type(error))
                    raise
                threading.Event().wait(0.005)

        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(run_sync, call)
                await until(begun.is_set)
                scope.cancel()
        assert scope.cancelled_caught
        assert seen == [asyncio.CancelledError]
        await run_sync(anyio.from_thread.check_cancelled)

    run(loop, main())


# -- ends -----------------------------------------------------------------------------------------


def test_the_loop_ends_and_so_do_threads(loop):
    threads = []

    async def main():
        gate = Gate()
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(run_sync, lambda: (threads.append(thread()), gate.hold()))
            await gate.reached(5)
            gate.open()

    run(loop, main())
    loop.close()
    for each in threads:
        each.join(patience.seconds(10))
        assert not each.is_alive()


def test_a_call_that_outlives_its_loop(loop, caplog):
    gate = Gate()

    async def main():
        task = asyncio.create_task(run_sync(gate.hold))
        await gate.reached(1)
        task.cancel()
        await asyncio.wait([task])

    run(loop, main())
    loop.close()
    gate.open()
    patience.until(lambda: gate.inside == 0)
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("loop_name", ["asyncio", "turboapi"])
def test_the_interpreter_waits_for_a_call(loop_name):
    out, code, err = output_of(
        loop_name,
        """
        import anyio.to_thread

        def call():
            begun.set()
            time.sleep(0.1)
            print("made", flush=True)

        async def main():
            task = asyncio.create_task(anyio.to_thread.run_sync(call))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            task.cancel()

        begun = threading.Event()
        loop = new_loop()
        loop.run_until_complete(main())
        """,
    )
    assert out == "made\n", err
    assert code == 0


@pytest.mark.parametrize("loop_name", ["asyncio", "turboapi"])
def test_anyio_run(loop_name):
    out, code, err = output_of(
        loop_name,
        """
        import anyio.to_thread

        async def main():
            print(await anyio.to_thread.run_sync(abs, -1))

        anyio.run(main, backend_options={"loop_factory": new_loop})
        for _ in range(1000):
            if threading.active_count() == 1:
                break
            time.sleep(0.01)
        print(threading.active_count())
        """,
    )
    assert out == "1\n1\n", err
    assert code == 0


# -- what is replaced is called -------------------------------------------------------------------


def test_debug_mode(loop):
    loop.set_debug(True)
    run(loop, run_sync(abs, -1))


def test_a_replaced_worker_class(loop, monkeypatch):
    class Worker(backend.WorkerThread):
        pass

    async def main():
        assert await uses_our_threads() is is_ours(loop)
        with monkeypatch.context() as patched:
            patched.setattr(backend, "WorkerThread", Worker)
            if is_ours(loop):
                assert type(await run_sync(thread)) is Worker
                assert type(await run_sync(thread)) is Worker
        assert await uses_our_threads() is is_ours(loop)

    run(loop, main())


def test_a_patched_worker_class(loop, monkeypatch):
    seen = []
    original = backend.WorkerThread._report_result

    def report(self, *args):
        seen.append(1)
        original(self, *args)

    async def main():
        with monkeypatch.context() as patched:
            patched.setattr(backend.WorkerThread, "_report_result", report)
            await run_sync(int)
            await run_sync(int)
        assert seen == [1, 1]
        await run_sync(int)

    run(loop, main())


def test_replaced_functions(loop, monkeypatch):
    seen = []

    def spy(original):
        async def spied(*args, **kwargs):
            seen.append(original.__name__)
            return await original(*args, **kwargs)

        return spied

    class_ = backend.AsyncIOBackend
    inner = class_.run_sync_in_worker_thread
    monkeypatch.setattr(anyio.to_thread, "run_sync", spy(run_sync))
    monkeypatch.setattr(class_, "run_sync_in_worker_thread", staticmethod(spy(inner)))
    assert run(loop, run_in_threadpool(abs, -1)) == 1
    assert seen == ["run_sync", "run_sync_in_worker_thread"]


def test_a_loop_whose_methods_are_replaced(loop):
    calls = []
    original = loop.call_soon_threadsafe

    def call_soon_threadsafe(*args, **kwargs):
        calls.append(threading.current_thread())
        return original(*args, **kwargs)

    async def main():
        await run_sync(thread)
        loop.call_soon_threadsafe = call_soon_threadsafe
        return await run_sync(thread)

    used = run(loop, main())
    assert used in calls
    assert type(used) is backend.WorkerThread


def test_an_anyio_that_is_not_known(monkeypatch):
    monkeypatch.setattr(_loop_threads, "_ANYIO_STEPS", ("another",))
    loop = new_event_loop()
    assert type(run(loop, run_sync(thread))) is backend.WorkerThread
    loop.close()


# -- the parts ------------------------------------------------------------------------------------


def test_the_queue_refuses_what_it_does_not_know(loop):
    if not is_ours(loop):
        pytest.skip("ours only")
    idle = anyio.lowlevel._run_vars[loop][backend._threadpool_idle_workers]
    assert isinstance(idle, _core.IdleThreads)
    queue = idle.pop()
    assert not idle
    with pytest.raises(TypeError):
        queue.put_nowait(None)
    with pytest.raises(TypeError):
        queue.put_nowait((1, 2))
    with pytest.raises(TypeError):
        _core.IdleThreads(queue, {}, weakref.ref(loop))
    with pytest.raises(TypeError):
        _core.IdleThreads(queue, backend.__dict__, loop)
    with pytest.raises(TypeError):
        _core.IdleThreads(1, {}, weakref.ref(loop))
    with pytest.raises(TypeError):
        _core.CallQueue(1, start=int, max_threads=1, idle_seconds=1, extra=())
    assert queue.qsize() == 0
    loop.close()
    assert not idle
    with pytest.raises(IndexError):
        idle.pop()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        queue.put_nowait((contextvars.Context(), int, (), None, None))
    with pytest.raises(RuntimeError, match="Selector is closed"):
        _core.CallQueue(
            loop._selector or _closed(), start=int, max_threads=1, idle_seconds=1, extra=()
        )


def test_threads_end_when_the_loop_stops(loop):
    async def many():
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(run_sync, thread)
        return await run_sync(thread)

    for _ in range(3):  # they start again
        last = loop.run_until_complete(many())
        assert not last.daemon
        for each in threading.enumerate():
            if each.name == "AnyIO worker thread":
                each.join(8)  # idle ones would stay for 10 s
                assert not each.is_alive()


def _closed():
    selector = _core.Selector()
    selector.close()
    return selector
