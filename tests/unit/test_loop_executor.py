"""run_in_executor and asyncio.to_thread: on our loop as on the standard one."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import logging
import os
import re
import sys
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import patience
import pytest
from loop_threads_kit import Gate, in_our_threads, is_ours, loop, output_of, run, until

from turboapi import _loop_threads
from turboapi.loop import EventLoop, new_event_loop

__all__ = ["loop"]

variable = contextvars.ContextVar("variable", default="unset")


def name_of_thread():
    return threading.current_thread().name


def of_threads(name):
    """Return the prefix: as the standard executor does, ours may start a thread one too early."""
    return name.rpartition("_")[0]


# -- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_arguments_and_result(loop, count):
    looked = threading.Event()

    def call(*args):
        assert looked.wait(patience.seconds(10))
        return args

    async def main():
        future = loop.run_in_executor(None, call, *range(count))
        assert type(future) is asyncio.Future
        assert future.get_loop() is loop
        assert not future.done()
        looked.set()
        assert await future == tuple(range(count))
        assert await asyncio.to_thread(lambda *a, **k: (a, k), 1, b=2) == ((1,), {"b": 2})

    run(loop, main())
    assert in_our_threads(loop)


def test_by_keyword_and_wrong_calls(loop):
    async def main():
        assert await loop.run_in_executor(executor=None, func=name_of_thread) == "asyncio_0"
        with pytest.raises(TypeError, match="missing"):
            loop.run_in_executor(None)
        with pytest.raises(TypeError, match="missing"):
            loop.run_in_executor()
        with pytest.raises(TypeError, match="not callable"):
            await loop.run_in_executor(None, 1)

    run(loop, main())


def test_many_at_once(loop):
    async def main():
        calls = [loop.run_in_executor(None, pow, i, 2) for i in range(1000)]
        assert await asyncio.gather(*calls) == [i * i for i in range(1000)]

    run(loop, main())


def fail(error):
    raise error


class Base(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("x"), KeyError(1), Base("b")])
def test_exceptions(loop, error):
    async def main():
        with pytest.raises(type(error)) as raised:
            await loop.run_in_executor(None, fail, error)
        assert raised.value is error
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert names[0] == "main"
        assert names[-1] == "fail"
        with pytest.raises(type(error)):
            await asyncio.to_thread(fail, error)

    run(loop, main())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_exceptions_that_end_the_loop(loop, error):
    async def main():
        await loop.run_in_executor(None, fail, error)

    task = loop.create_task(main())
    with pytest.raises(type(error)) as raised:
        loop.run_until_complete(task)
    assert raised.value is error
    assert task.done()
    assert task.exception() is error


def test_stop_iteration(loop):
    if sys.version_info < (3, 12) and not is_ours(loop):
        pytest.skip("the Future is never done there")

    async def main():
        future = loop.run_in_executor(None, next, iter(()))
        with pytest.raises(RuntimeError, match="StopIteration") as raised:
            await future
        assert isinstance(raised.value.__cause__, StopIteration)

    run(loop, main())


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (concurrent.futures.CancelledError("why"), asyncio.CancelledError),
        (concurrent.futures.TimeoutError("why"), asyncio.TimeoutError),
        (concurrent.futures.InvalidStateError("why"), asyncio.InvalidStateError),
    ],
)
def test_exceptions_of_concurrent_futures(loop, raised, expected):
    async def main():
        with pytest.raises(expected) as caught:
            await loop.run_in_executor(None, fail, raised)
        assert caught.value.args == ("why",)

    run(loop, main())


def test_an_exception_that_nobody_takes_is_logged(loop, caplog):
    async def main():
        future = loop.run_in_executor(None, fail, ValueError("lost"))
        await until(future.done)
        del future
        gc.collect()

    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.run_until_complete(main())
    assert "Future exception was never retrieved" in caplog.text


def test_objects_are_released(loop):
    class Thing:
        pass

    async def main():
        thing, argument = Thing(), Thing()
        references = [weakref.ref(thing), weakref.ref(argument)]
        await loop.run_in_executor(None, lambda *_: None, thing, argument)
        del thing, argument
        gc.collect()
        await until(lambda: not any(reference() for reference in references))

    run(loop, main())


# -- context --------------------------------------------------------------------------------------


def test_context_variables(loop):
    def swap(value):
        before = variable.get()
        variable.set(value)
        return before

    async def main():
        executor = loop._default_executor
        if executor is None or type(executor) is ThreadPoolExecutor:
            # One whose thread is not back yet from the last call would start another one.
            executor = ThreadPoolExecutor(1)
        loop.set_default_executor(executor)
        variable.set("task")
        # A thread of an executor has a context of its own, which stays; to_thread copies ours.
        assert await loop.run_in_executor(None, swap, "kept") == "unset"
        assert await asyncio.to_thread(swap, "lost") == "task"
        assert await asyncio.to_thread(swap, "lost") == "task"
        assert await loop.run_in_executor(None, swap, "kept") == "kept"
        assert variable.get() == "task"

    async def first():  # makes the default executor, with a single thread
        await loop.run_in_executor(None, int)

    run(loop, first())
    run(loop, main())


# -- cancellation ---------------------------------------------------------------------------------


def test_a_cancelled_call_is_not_made(loop):
    async def main():
        gate = Gate()
        await loop.run_in_executor(None, int)
        most = loop._default_executor._max_workers
        held = [loop.run_in_executor(None, gate.hold, i) for i in range(most)]
        waiting = [loop.run_in_executor(None, gate.hold, "waits") for _ in range(20)]
        await gate.reached(most)
        for future in waiting[::2]:
            assert future.cancel()
        await asyncio.sleep(0.01)
        gate.open()
        assert await asyncio.gather(*held) == list(range(most))
        assert await asyncio.gather(*waiting[1::2]) == ["waits"] * 10
        assert gate.made == most + 10
        assert all(future.cancelled() for future in waiting[::2])

    run(loop, main())


def test_a_cancelled_call_that_runs_goes_on(loop):
    async def main():
        gate, done = Gate(), []

        def call():
            gate.hold()
            done.append(True)
            raise ValueError("nobody is told")

        task = asyncio.create_task(asyncio.to_thread(call))
        await gate.reached(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not done
        gate.open()
        await until(lambda: done)

    run(loop, main())


def test_wait_for_and_shield(loop):
    async def main():
        gate = Gate()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(None, gate.hold), 0.01)
        future = loop.run_in_executor(None, gate.hold, 7)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(future), 0.01)
        gate.open()
        assert await future == 7

    run(loop, main())


# -- executors ------------------------------------------------------------------------------------


def test_an_executor_of_the_user(loop):
    async def main():
        with ThreadPoolExecutor(1, thread_name_prefix="given") as given:
            assert await loop.run_in_executor(given, name_of_thread) == "given_0"
            assert loop._default_executor is None
            loop.set_default_executor(given)
            assert loop._default_executor is given
            assert await loop.run_in_executor(None, name_of_thread) == "given_0"
            assert await asyncio.to_thread(name_of_thread) == "given_0"

    run(loop, main())


def test_the_users_executor_replaces_ours(loop):
    async def main():
        assert of_threads(await asyncio.to_thread(name_of_thread)) == "asyncio"
        ours = loop._default_executor
        with ThreadPoolExecutor(1, thread_name_prefix="given") as given:
            loop.set_default_executor(given)
            assert await asyncio.to_thread(name_of_thread) == "given_0"
        loop.set_default_executor(ours)
        assert of_threads(await asyncio.to_thread(name_of_thread)) == "asyncio"
        with pytest.raises(TypeError, match="ThreadPoolExecutor"):
            loop.set_default_executor(object())

    run(loop, main())


def test_how_many_threads(loop):
    async def main():
        gate = Gate()
        most = min(
            32, (os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()) + 4
        )
        calls = [loop.run_in_executor(None, gate.hold) for _ in range(most + 10)]
        await gate.reached(most)
        await asyncio.sleep(0.02)
        assert gate.inside == most
        executor = loop._default_executor
        assert isinstance(executor, ThreadPoolExecutor)
        assert executor._max_workers == most
        assert sorted(t.name for t in executor._threads) == sorted(
            f"asyncio_{i}" for i in range(most)
        )
        assert all(not thread.daemon for thread in executor._threads)
        assert executor._work_queue.qsize() == 10
        gate.open()
        await asyncio.gather(*calls)
        assert gate.most == most

    run(loop, main())
    assert in_our_threads(loop)


def test_an_idle_thread_is_used_again(loop):
    async def main():
        for _ in range(20):
            assert of_threads(await asyncio.to_thread(name_of_thread)) == "asyncio"
            await asyncio.sleep(0.002)
        if is_ours(loop):
            assert len(loop._default_executor._threads) == 1

    run(loop, main())


def test_more_threads_by_the_private_name(loop):
    async def main():
        await asyncio.to_thread(int)
        loop._default_executor._max_workers = most = 50
        gate = Gate()
        calls = [loop.run_in_executor(None, gate.hold) for _ in range(most)]
        await gate.reached(most)
        gate.open()
        await asyncio.gather(*calls)

    run(loop, main())


def test_the_executor_by_itself(loop):
    async def main():
        await asyncio.to_thread(int)
        executor = loop._default_executor
        future = executor.submit(pow, 2, exp=3)
        assert type(future) is concurrent.futures.Future
        assert future.result(patience.seconds(10)) == 8
        assert list(executor.map(abs, [-1, 2])) == [1, 2]
        assert of_threads(await loop.run_in_executor(executor, name_of_thread)) == "asyncio"
        with pytest.raises(ValueError, match="x"):
            executor.submit(fail, ValueError("x")).result(patience.seconds(10))

    run(loop, main())


def test_shutdown_with_cancel_futures(loop):
    async def main():
        await asyncio.to_thread(int)
        gate, executor = Gate(), loop._default_executor
        most = executor._max_workers
        held = [loop.run_in_executor(None, gate.hold) for _ in range(most)]
        queued, submitted = loop.run_in_executor(None, gate.hold), executor.submit(gate.hold)
        await gate.reached(most)
        executor.shutdown(wait=False, cancel_futures=True)
        assert submitted.cancelled()
        await until(queued.cancelled)
        with pytest.raises(RuntimeError, match="after shutdown"):
            loop.run_in_executor(None, int)
        gate.open()
        await asyncio.gather(*held)
        assert gate.made == most

    run(loop, main())


def test_shutdown_default_executor_waits(loop):
    async def main():
        gate = Gate()
        call = loop.run_in_executor(None, gate.hold, "done")
        await gate.reached(1)
        ending = asyncio.create_task(loop.shutdown_default_executor())
        await asyncio.sleep(0.02)
        assert not ending.done()
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, int)
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            await asyncio.to_thread(int)
        gate.open()
        await ending
        assert await call == "done"
        assert not any(thread.is_alive() for thread in loop._default_executor._threads)

    run(loop, main())


def test_shutdown_of_an_executor_that_was_never_used(loop):
    run(loop, loop.shutdown_default_executor())
    assert loop._default_executor is None
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, int)


def test_close_lets_what_is_queued_run(loop):
    gate = Gate()

    async def main():
        await asyncio.to_thread(int)
        calls = [
            loop.run_in_executor(None, gate.hold)
            for _ in range(loop._default_executor._max_workers + 3)
        ]
        await gate.reached(loop._default_executor._max_workers)
        return calls, list(loop._default_executor._threads)

    calls, threads = run(loop, main())
    loop.close()
    assert loop._default_executor is None
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_in_executor(None, int)
    gate.open()
    for thread in threads:
        thread.join(patience.seconds(10))
        assert not thread.is_alive()
    assert gate.made == len(calls)
    assert not any(call.done() for call in calls)


def test_a_loop_that_is_dropped_ends_its_threads(loop):
    if not is_ours(loop):
        pytest.skip("asyncio's loop warns of it, as ours does, and keeps its threads as long")

    def make():
        dropped = new_event_loop()
        dropped.run_until_complete(asyncio.wait_for(dropped.run_in_executor(None, int), None))
        threads = list(dropped._default_executor._threads)
        dropped._selector.close()
        dropped._ssock.close()
        dropped._csock.close()
        dropped._closed = True
        return threads

    threads = make()
    gc.collect()
    for thread in threads:
        thread.join(patience.seconds(10))
        assert not thread.is_alive()


# -- the end of the interpreter -------------------------------------------------------------------


@pytest.mark.parametrize("loop_name", ["asyncio", "turboapi"])
def test_the_interpreter_waits_for_calls(loop_name):
    out, code, err = output_of(
        loop_name,
        """
        def call(i):
            time.sleep(0.05)
            print("made", i, flush=True)

        async def main():
            loop = asyncio.get_running_loop()
            await asyncio.to_thread(int)
            loop._default_executor._max_workers = 1
            for i in range(4):
                loop.run_in_executor(None, call, i)

        loop = new_loop()
        loop.run_until_complete(main())
        """,
    )
    assert out == "made 0\nmade 1\nmade 2\nmade 3\n", err
    assert code == 0


@pytest.mark.parametrize("loop_name", ["asyncio", "turboapi"])
def test_a_child_of_fork_ends(loop_name):
    out, code, err = output_of(
        loop_name,
        """
        import os, sys

        async def main():
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.001) for _ in range(20)))

        loop = new_loop()
        loop.run_until_complete(main())
        for closed in (False, True):
            if (pid := os.fork()) == 0:
                if closed:
                    loop.close()
                sys.exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        loop.close()
        """,
    )
    assert out == "0\n0\n", err
    assert code == 0


def test_calls_in_a_child_of_fork():
    """On asyncio's executor they wait for ever for a thread that was idle before the fork."""
    out, code, err = output_of(
        "turboapi",
        """
        import os

        async def main():
            calls = (asyncio.to_thread(time.sleep, 0.001) for _ in range(20))
            await asyncio.wait_for(asyncio.gather(*calls), 30)

        loop = new_loop()
        loop.run_until_complete(main())
        for _ in range(3):
            if (pid := os.fork()) == 0:
                loop.run_until_complete(main())
                os._exit(0)  # to close the loop would take its files from the parent's epoll set
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        loop.run_until_complete(main())
        loop.close()
        """,
    )
    assert out == "0\n0\n0\n", err
    assert code == 0


@pytest.mark.parametrize("loop_name", ["asyncio", "turboapi"])
def test_no_call_after_the_end(loop_name):
    out, code, err = output_of(
        loop_name,
        """
        loop = new_loop()

        def late():
            try:
                loop.run_in_executor(None, int)
            except RuntimeError as error:
                print(error)
            loop.close()

        loop.run_until_complete(asyncio.wait_for(loop.run_in_executor(None, int), None))
        atexit.register(late)
        """,
    )
    # The standard executor's threads mark it as shut down, too, sooner or later.
    assert re.fullmatch("cannot schedule new futures after (interpreter )?shutdown\n", out), err
    assert code == 0


@pytest.mark.parametrize("loop_name", ["asyncio", "turboapi"])
def test_asyncio_run_joins(loop_name):
    out, code, err = output_of(
        loop_name,
        """
        async def main():
            asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(0.1), print("made")))

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
        print("end", threading.active_count())
        """,
    )
    assert out == "made\nend 1\n", err
    assert code == 0


# -- what is replaced is called -------------------------------------------------------------------


def test_debug_mode(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01

    async def coroutine():
        pass

    async def main():
        with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
            loop.run_in_executor(None, coroutine)
        future = loop.run_in_executor(None, name_of_thread)
        future.add_done_callback(lambda _: threading.Event().wait(0.05))
        assert of_threads(await future) == "asyncio"
        assert of_threads(await asyncio.to_thread(name_of_thread)) == "asyncio"
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(loop, main())
    assert "took 0.0" in caplog.text


def test_instrumented_submit(loop, monkeypatch):
    seen = []
    original = ThreadPoolExecutor.submit

    @functools.wraps(original)
    def submit(self, fn, /, *args, **kwargs):
        seen.append(fn)
        return original(self, fn, *args, **kwargs)

    async def main():
        assert of_threads(await asyncio.to_thread(name_of_thread)) == "asyncio"
        monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
        assert of_threads(await loop.run_in_executor(None, name_of_thread)) == "asyncio"
        assert seen == [name_of_thread]
        with pytest.raises(ValueError, match="x"):
            await loop.run_in_executor(None, fail, ValueError("x"))
        monkeypatch.undo()
        assert of_threads(await loop.run_in_executor(None, name_of_thread)) == "asyncio"
        assert seen == [name_of_thread, fail]

    run(loop, main())
    assert in_our_threads(loop)


def test_another_executor_class(loop, monkeypatch):
    class Other(ThreadPoolExecutor):
        pass

    async def main():
        monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", Other)
        assert await asyncio.to_thread(name_of_thread) == "asyncio_0"
        assert type(loop._default_executor) is Other

    run(loop, main())


@pytest.mark.parametrize("base", [asyncio.SelectorEventLoop, EventLoop])
def test_subclasses(base):
    seen = []

    class Loop(base):
        def create_future(self):
            seen.append("create_future")
            return super().create_future()

        def call_soon_threadsafe(self, callback, *args, context=None):
            seen.append("call_soon_threadsafe")
            return super().call_soon_threadsafe(callback, *args, context=context)

        def run_in_executor(self, executor, func, *args):
            seen.append("run_in_executor")
            return super().run_in_executor(executor, func, *args)

    loop = Loop()
    waits = threading.Event()

    def call():  # from Python 3.15 on nobody calls the loop when it has ended already
        assert waits.wait(patience.seconds(10))

    async def main():
        loop.call_soon(waits.set)
        await asyncio.to_thread(call)

    run(loop, main())
    assert seen == ["run_in_executor", "create_future", "call_soon_threadsafe"]
    run(loop, loop.shutdown_default_executor())
    loop.close()


def test_replaced_in_the_loop_itself(loop):
    seen = []
    original = loop.create_future
    loop.create_future = lambda: (seen.append(1), original())[1]
    run(loop, asyncio.to_thread(int))
    assert seen == [1]


def test_only_run_in_executor_is_replaced():
    class Loop(EventLoop):
        def run_in_executor(self, executor, func, *args):
            return super().run_in_executor(executor, func, *args)

    loop = Loop()
    assert run(loop, asyncio.to_thread(name_of_thread)) == "asyncio_0"
    assert in_our_threads(loop)
    run(loop, loop.shutdown_default_executor())
    loop.close()


def test_another_selector():
    import selectors

    loop = EventLoop(selectors.DefaultSelector())
    assert run(loop, asyncio.to_thread(name_of_thread)) == "asyncio_0"
    assert type(loop._default_executor) is ThreadPoolExecutor
    run(loop, loop.shutdown_default_executor())
    loop.close()


def test_without_the_private_names(monkeypatch):
    monkeypatch.setattr(_loop_threads, "_KNOWN", False)
    loop = new_event_loop()
    assert run(loop, asyncio.to_thread(name_of_thread)) == "asyncio_0"
    assert type(loop._default_executor) is ThreadPoolExecutor
    run(loop, loop.shutdown_default_executor())
    loop.close()


def test_a_thread_that_cannot_start(loop, monkeypatch):
    def start(_self):
        raise RuntimeError("can't start new thread")

    async def main():
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                loop.run_in_executor(None, int)
        assert await loop.run_in_executor(None, name_of_thread) == "asyncio_0"

    run(loop, main())
