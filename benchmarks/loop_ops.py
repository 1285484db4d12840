"""What operations of an event loop cost: TurboAPI's loop beside asyncio's and uvloop.

    python benchmarks/loop_ops.py                       # a table in nanoseconds
    python benchmarks/loop_ops.py --instructions        # and in user instructions (needs valgrind)
    python benchmarks/loop_ops.py --ops task_step,to_thread --loops turboapi,uvloop

Instructions are counted by callgrind in all threads of the process. They do not depend on what else
the machine does, but leave the kernel out; nanoseconds (the best of five rounds) do the opposite.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

LOOPS = ("asyncio", "uvloop", "turboapi")
ROUNDS = 5

Operation = Callable[[int], Awaitable[Any]]


def nothing(*_: Any) -> None:
    """Do nothing: what is called, waited for and run in threads."""


async def coroutine() -> None:
    """Do nothing in a Task."""


async def call_soon(n: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n // 100):
        for _ in range(100):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def call_soon_threadsafe(n: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n // 100):
        for _ in range(100):
            loop.call_soon_threadsafe(nothing)
        await asyncio.sleep(0)


async def call_later_cancel(n: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n // 100):
        for handle in [loop.call_later(60, nothing) for _ in range(100)]:
            handle.cancel()
        await asyncio.sleep(0)


async def call_later_due(n: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n // 100):
        for _ in range(100):
            loop.call_later(0, nothing)
        await asyncio.sleep(0.001)


async def task_step(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def future(n: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n):
        waiter = loop.create_future()
        loop.call_soon(waiter.set_result, None)
        await waiter


async def create_task(n: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n):
        await loop.create_task(coroutine())


async def gather10(n: int) -> None:
    for _ in range(n // 10):
        await asyncio.gather(*(coroutine() for _ in range(10)))


async def queue(n: int) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def put() -> None:
        for i in range(n):
            await queue.put(i)

    task = asyncio.create_task(put())
    for _ in range(n):
        await queue.get()
    await task


async def event(n: int) -> None:
    there, back = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        for _ in range(n):
            await there.wait()
            there.clear()
            back.set()

    task = asyncio.create_task(answer())
    for _ in range(n):
        there.set()
        await back.wait()
        back.clear()
    await task


async def lock(n: int) -> None:
    """Let two tasks take turns."""
    mutex = asyncio.Lock()

    async def take() -> None:
        for _ in range(n // 2):
            async with mutex:
                await asyncio.sleep(0)

    await asyncio.gather(take(), take())


async def timeout(n: int) -> None:
    for _ in range(n):
        async with asyncio.timeout(60):
            pass


async def wait_for(n: int) -> None:
    for _ in range(n):
        await asyncio.wait_for(coroutine(), 60)


async def run_in_executor(n: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(n):
        await loop.run_in_executor(None, nothing)


async def to_thread(n: int) -> None:
    for _ in range(n):
        await asyncio.to_thread(nothing)


async def anyio_run_sync(n: int) -> None:
    import anyio.to_thread

    for _ in range(n):
        await anyio.to_thread.run_sync(nothing)


async def run_in_threadpool(n: int) -> None:
    from starlette.concurrency import run_in_threadpool

    for _ in range(n):
        await run_in_threadpool(nothing)


# How often each is repeated. Those that take a thread are dearer, and valgrind lets threads wait.
OPERATIONS: dict[str, tuple[Operation, int]] = {
    each.__name__: (each, count)
    for each, count in (
        *((each, 3000) for each in (call_soon, call_soon_threadsafe, call_later_cancel)),
        *((each, 3000) for each in (call_later_due, task_step, future, create_task, gather10)),
        *((each, 3000) for each in (queue, event, lock, timeout, wait_for)),
        *((each, 500) for each in (run_in_executor, to_thread, anyio_run_sync, run_in_threadpool)),
    )
}


# -- the measured process --------------------------------------------------------------------------


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """Make the loop of that name."""
    if name == "uvloop":
        import uvloop

        made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return made
    if name == "turboapi":
        from turboapi.loop import new_event_loop

        return new_event_loop()
    return asyncio.SelectorEventLoop()


def in_step() -> None:
    """Tell the parent that we are there, and wait until it has done its part."""
    print(flush=True)
    sys.stdin.readline()


async def serve(names: list[str], stepped: bool) -> None:
    """Run the operations: in step with the parent, which counts, or by the clock."""
    for name in names:
        operation, count = OPERATIONS[name]
        await operation(max(count // 5, 200))
        if stepped:
            in_step()
            await operation(count)
            in_step()
            continue
        best = float("inf")
        for _ in range(ROUNDS):
            begun = time.perf_counter_ns()
            await operation(count)
            best = min(best, (time.perf_counter_ns() - begun) / count)
        print(best, flush=True)


def child(loop_name: str, names: list[str], stepped: bool) -> None:
    """Be the measured process."""
    loop = new_loop(loop_name)
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve(names, stepped))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


# -- the parent ------------------------------------------------------------------------------------


def command(loop_name: str, names: list[str], mode: str) -> list[str]:
    """Return the command line of a measured process."""
    return [
        sys.executable,
        __file__,
        "--child",
        mode,
        "--loops",
        loop_name,
        "--ops",
        ",".join(names),
    ]


def nanoseconds(loop_name: str, names: list[str]) -> dict[str, float]:
    """Return the time of each operation."""
    out = subprocess.run(
        command(loop_name, names, "clock"), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return dict(zip(names, map(float, out.split()), strict=True))


def instructions(loop_name: str, names: list[str]) -> dict[str, float]:
    """Return the user instructions of each operation."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        valgrind = [
            *("valgrind", "--tool=callgrind", "--instr-atstart=no", "--fair-sched=yes"),
            f"--callgrind-out-file={folder}/cg",
        ]
        process = subprocess.Popen(
            [*valgrind, *command(loop_name, names, "stepped")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        def control(*args: str) -> None:
            subprocess.run(
                ["callgrind_control", *args, str(process.pid)],
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        def go_on() -> None:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()

        for name in names:
            process.stdout.readline()
            control("-z")
            control("-i", "on")
            go_on()
            process.stdout.readline()
            control("-i", "off")
            for old in Path(folder).iterdir():
                old.unlink()
            control("-d")
            totals = [
                int(found[1])
                for file in Path(folder).iterdir()
                for found in re.finditer(r"^(?:totals|summary): (\d+)", file.read_text(), re.M)
            ]
            result[name] = max(totals, default=0) / OPERATIONS[name][1]
            if keep := os.environ.get("KEEP"):
                for file in Path(folder).iterdir():
                    file.rename(Path(keep) / f"{loop_name}.{name}")
            go_on()
        process.communicate()
    return result


def table(title: str, names: list[str], columns: dict[str, dict[str, float]]) -> None:
    """Print one, with a column per loop."""
    loops = list(columns)
    print(f"\n| {title} | {' | '.join(loops)} |\n|---|{'---:|' * len(loops)}")
    for name in names:
        print(f"| {name} | {' | '.join(f'{columns[loop][name]:,.0f}' for loop in loops)} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ops", default=",".join(OPERATIONS), help="default: all of them")
    parser.add_argument("--loops", default=",".join(LOOPS), help="default: %(default)s")
    parser.add_argument("--instructions", action="store_true", help="count them, too")
    parser.add_argument("--child", choices=("clock", "stepped"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.ops.split(",")
    if unknown := [name for name in names if name not in OPERATIONS]:
        parser.error(f"no such operation: {', '.join(unknown)}")
    if given.child:
        child(given.loops, names, given.child == "stepped")
        return
    loops = given.loops.split(",")
    table("ns", names, {loop: nanoseconds(loop, names) for loop in loops})
    if given.instructions:
        table("user instructions", names, {loop: instructions(loop, names) for loop in loops})


if __name__ == "__main__":
    main()
