"""`_core.Selector` beside the standard library's selectors, and asyncio on top of it."""

import asyncio
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import patience
import pytest

from turboapi import _core

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture(params=["epoll", "poll", "stdlib"])
def selector(request):
    made = (
        selectors.DefaultSelector() if request.param == "stdlib" else _core.Selector(request.param)
    )
    with made as each:
        yield each


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    with a, b:
        yield a, b


# -- the interface: every test runs on the standard library's selector too ------------------------


def test_register(selector, pair):
    a, _ = pair
    key = selector.register(a, READ, "data")
    assert key == (a, a.fileno(), READ, "data")
    assert isinstance(key, selectors.SelectorKey)
    assert selector.get_key(a) is key
    assert selector.get_key(a.fileno()) is key
    assert selector.unregister(a) is key
    with pytest.raises(KeyError):
        selector.get_key(a)


def test_modify(selector, pair):
    a, b = pair
    selector.register(a, READ)
    assert selector.modify(a, READ | WRITE, 5) == (a, a.fileno(), READ | WRITE, 5)
    assert selector.select(0) == [((a, a.fileno(), READ | WRITE, 5), WRITE)]
    selector.modify(a, READ)
    assert selector.select(0) == []
    b.send(b"x")
    assert selector.select(5) == [((a, a.fileno(), READ, None), READ)]
    assert selector.select(0) == [((a, a.fileno(), READ, None), READ)]  # level-triggered


@pytest.mark.parametrize("events", [0, 4, 7, -1])
def test_invalid_events(selector, pair, events):
    with pytest.raises(ValueError, match=f"^Invalid events: {events}$"):
        selector.register(pair[0], events)


@pytest.mark.parametrize(
    ("what", "text"), [(-1, "Invalid file descriptor: -1"), ("x", "Invalid file object: 'x'")]
)
def test_invalid_file_objects(selector, what, text):
    for call in (lambda: selector.register(what, READ), lambda: selector.unregister(what)):
        with pytest.raises((ValueError, KeyError)) as caught:
            call()
        assert caught.value.args[0] in (text, f"{what!r} is not registered")


def test_errors_name_the_object(selector, pair):
    a, _ = pair
    for call in (selector.unregister, selector.get_key, lambda f: selector.modify(f, READ)):
        with pytest.raises(KeyError) as caught:
            call(a)
        assert caught.value.args == (f"{a!r} is not registered",)
    selector.register(a, READ)
    with pytest.raises(KeyError) as caught:
        selector.register(a.fileno(), READ)
    assert caught.value.args == (f"{a.fileno()} (FD {a.fileno()}) is already registered",)


def test_closed_file_can_be_unregistered(selector, pair):
    a, _ = pair
    selector.register(a, READ)
    a.close()
    assert selector.get_map()[a].fileobj is a
    assert selector.unregister(a).fileobj is a
    assert selector.select(0) == []


def test_map(selector, pair):
    a, b = pair
    mapping = selector.get_map()
    assert isinstance(mapping, Mapping)
    assert len(mapping) == 0
    key = selector.register(a, READ)
    assert mapping is selector.get_map()
    assert mapping[a] is mapping[a.fileno()] is key
    assert mapping.get(b) is None
    assert mapping.get(b, 3) == 3
    assert a in mapping
    assert b not in mapping
    assert list(mapping) == list(mapping.keys()) == [a.fileno()]
    assert list(mapping.values()) == [key]
    assert list(mapping.items()) == [(a.fileno(), key)]
    with pytest.raises(KeyError):
        mapping[b]


def test_timeout(selector):
    began = time.monotonic()
    assert selector.select(0.05) == []
    assert 0.049 <= time.monotonic() - began < patience.seconds(2)
    began = time.monotonic()
    assert selector.select(0) == selector.select(-1) == []
    assert time.monotonic() - began < patience.seconds(1)


def test_timeout_that_is_no_number(selector):
    with pytest.raises(ValueError, match="NaN"):
        selector.select(float("nan"))


def test_hang_up_wakes(selector, pair):
    a, b = pair
    selector.register(a, READ | WRITE)
    b.close()
    assert selector.select(5)[0][1] & READ


def test_after_close(selector, pair):
    selector.register(pair[0], READ)
    selector.close()
    assert selector.get_map() is None
    with pytest.raises(RuntimeError, match="Selector is closed"):
        selector.get_key(pair[0])
    selector.close()


def test_many(selector):
    pairs = [socket.socketpair() for _ in range(300)]
    try:
        for a, b in pairs:
            selector.register(a, READ, b)
            b.send(b"x")
        seen = set()
        while len(seen) < len(pairs):
            for key, _ in selector.select(5):
                key.fileobj.recv(1)
                seen.add(key.fd)
    finally:
        for a, b in pairs:
            selector.unregister(a)
            a.close()
            b.close()


# -- ours alone -----------------------------------------------------------------------------------


def test_it_is_a_selector():
    with _core.Selector() as selector:
        assert isinstance(selector, selectors.BaseSelector)
        assert selector.fileno() >= 0
    with pytest.raises(ValueError, match="closed"):
        selector.fileno()
    with pytest.raises(ValueError, match="unknown backend"):
        _core.Selector("kqueue")


def test_select_cannot_be_nested_or_attached_elsewhere():
    selector = _core.Selector()
    other = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="must be running in this thread"):
            selector.attach(other)
        with pytest.raises(RuntimeError, match="not attached"):
            selector.spawn(None)
    finally:
        other.close()
        selector.close()


def test_it_is_attached_before_the_loop_runs():
    selector = _core.Selector()
    loop = asyncio.SelectorEventLoop(selector)
    selector.attach(loop)
    done = loop.create_future()

    async def main():
        selector.attach(loop)
        selector.spawn(asyncio.sleep(0, "result"), lambda *ended: done.set_result(ended))
        return await done

    try:
        assert loop.run_until_complete(main()) == ("result", None)
    finally:
        loop.close()


def test_it_is_not_attached_to_a_loop_that_runs_elsewhere():
    selector = _core.Selector()
    loop = asyncio.SelectorEventLoop(selector)

    async def main():
        with pytest.raises(RuntimeError, match="must be running in this thread"):
            await asyncio.to_thread(selector.attach, loop)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def on_loop(coro, backend="auto"):
    """Run it on a loop that our selector hosts."""
    selector = _core.Selector(backend)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(coro)


@pytest.mark.parametrize("backend", ["epoll", "poll"])
def test_streams(backend):
    async def main():
        async def serve(reader, writer):
            while data := await reader.readline():
                writer.write(data.upper())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)

        async def client(n):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for i in range(20):
                writer.write(b"%d-%d x\n" % (n, i))
                assert await reader.readline() == b"%d-%d X\n" % (n, i)
            writer.close()
            await writer.wait_closed()

        async with server:
            await asyncio.gather(*(client(n) for n in range(20)))

    on_loop(main(), backend)


def test_timers_in_order():
    async def main():
        order = []
        for i in (3, 1, 2):
            asyncio.get_running_loop().call_later(i / 100, order.append, i)
        await asyncio.sleep(0.06)
        return order

    assert on_loop(main()) == [1, 2, 3]


def test_call_soon_threadsafe_and_executor():
    async def main():
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        threading.Timer(0.02, lambda: loop.call_soon_threadsafe(done.set)).start()
        await asyncio.wait_for(done.wait(), 5)
        return await loop.run_in_executor(None, lambda: 7)

    assert on_loop(main()) == 7


def test_subprocess():
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(input())",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate(b"hi\n")
        return out, process.returncode

    assert on_loop(main()) == (b"hi\n", 0)


def test_signal_handler_of_the_loop():
    async def main():
        loop = asyncio.get_running_loop()
        got = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, got.set)
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        await asyncio.wait_for(got.wait(), 5)
        loop.remove_signal_handler(signal.SIGUSR1)

    on_loop(main())


def test_exception_of_a_plain_signal_handler_leaves_select():
    class Ring(Exception):
        pass

    def ring(number, frame):
        raise Ring

    old = signal.signal(signal.SIGALRM, ring)
    try:
        with _core.Selector() as selector:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Ring):
                selector.select(5)
    finally:
        signal.signal(signal.SIGALRM, old)


def test_keyboard_interrupt_is_prompt():
    code = (
        "import asyncio, signal, turboapi._core as c\n"
        # Shells start what runs in the background with the signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "async def main():\n"
        "    print('up', flush=True)\n"
        "    await asyncio.sleep(30)\n"
        "with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(c.Selector())) as r:\n"
        "    try: r.run(main())\n"
        "    except KeyboardInterrupt: print('interrupted')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10)[0] == b"interrupted\n"


def test_loop_and_selector_are_collected():
    async def main(selector):
        selector.attach(asyncio.get_running_loop())
        selector.spawn(asyncio.sleep(0))
        await asyncio.sleep(0.01)
        assert any(map(is_pooled, gc.get_objects()))

    def is_pooled(o):
        return type(o) is asyncio.Task and type(o.get_coro()).__name__ == "Trampoline"

    def ours():
        gc.collect()
        return [o for o in gc.get_objects() if type(o).__name__ == "Selector" or is_pooled(o)]

    before, count = len(os.listdir("/proc/self/fd")), len(ours())
    for _ in range(3):
        selector = _core.Selector()
        loop = asyncio.SelectorEventLoop(selector)
        loop.run_until_complete(main(selector))
        loop.close()
        del loop, selector
    assert len(ours()) == count
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("debug", [False, True])
def test_uvloop_hosts_it_nested(debug):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        selector.attach(loop)
        results = []

        async def work(n):
            await asyncio.sleep(0.001)
            return n, asyncio.current_task() in asyncio.all_tasks()

        for n in range(5):
            selector.spawn(work(n), lambda *args: results.append(args))
        while len(results) < 5:
            await asyncio.sleep(0.001)
        return sorted(results, key=lambda pair: pair[0])

    selector = _core.Selector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == [((n, True), None) for n in range(5)]
        selector.close()


# -- what other threads see -----------------------------------------------------------------------


def wait_until(condition, seconds=60):
    """A generous deadline: the machine may be busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def uvloop_loop(_selector):
    uvloop = pytest.importorskip("uvloop")
    return uvloop.new_event_loop()


@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, uvloop_loop])
def test_lag(new_loop):
    selector = _core.Selector()
    assert selector.lag() == 0.0
    loop = new_loop(selector)
    hold, held, release = threading.Event(), threading.Event(), threading.Event()

    async def main():
        selector.attach(asyncio.get_running_loop())
        while not release.is_set():
            await asyncio.sleep(0.01)
            if hold.is_set():
                held.set()
                release.wait(60)

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    try:
        for _ in range(5):
            selector.lag()
            time.sleep(0.02)
        hold.set()
        assert held.wait(60)
        # A loop that is asked to come may have answered the call before.
        wait_until(lambda: selector.lag() > 0.2)
        first = selector.lag()
        wait_until(lambda: selector.lag() > first)
    finally:
        release.set()
        thread.join(60)
    loop.close()
    selector.close()
    assert selector.lag() == 0.0


@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, uvloop_loop])
def test_lag_of_a_loop_that_waits(new_loop):
    selector = _core.Selector()
    loop = new_loop(selector)
    over = asyncio.Event()
    attached = threading.Event()

    async def main():
        selector.attach(asyncio.get_running_loop())
        attached.set()
        await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    assert attached.wait(60)
    wait_until(lambda: selector.lag() == 0.0)
    if isinstance(loop, asyncio.SelectorEventLoop):
        for _ in range(20):
            time.sleep(0.01)
            assert selector.lag() == 0.0
    else:  # each call wakes it, and the next one finds that it came
        wait_until(lambda: selector.lag() == 0.0 == selector.lag())
    loop.call_soon_threadsafe(over.set)
    thread.join(60)
    loop.close()
    selector.close()
