"""What a client library takes by itself: the work of a handler in a bare loop, without a server.

    python alone.py row [--loop turboapi|uvloop] [--seconds 2]      (prints one line of JSON)

As many tasks as the benchmark has connections do it again and again. It needs the environment that
realistic.py gives the applications.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "apps"))

import chosen  # noqa: F401 - first: it decides what `fastapi` is

# isort: split
import work
from asgi_correlation_id import CorrelationIdMiddleware
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from real.cases import BY_KEY, MEMBERS


async def items() -> object:
    """Select twenty objects in a session of their own."""
    async with work.clients.sessions() as session:
        return await work.twenty(session)


async def items_sync() -> object:
    """Do it blocking, in this thread: what waiting and threads cost is the server's."""
    with work.sync_sessions() as session:
        return work.twenty_sync(session)


def guarded() -> Callable[[], Awaitable[object]]:
    """Return the middlewares round an application that does nothing, and the handler's work."""

    async def null(scope: Any, receive: Any, send: Any) -> None:
        scope |= {"endpoint": nothing, "router": owner.router}  # as a router leaves it
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def nothing(*_args: Any) -> Any:
        return None

    headers = [(n.lower().encode(), v.encode()) for n, v in BY_KEY["jwt"].headers.items()]
    # Its routes, as many as FastAPI() has, group the metrics.
    documents = ["/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"]
    owner = Starlette(routes=[Route(path, nothing) for path in [*documents, "/me"]])
    inner: Any = PrometheusMiddleware(null, group_paths=True)
    inner = CORSMiddleware(inner, allow_origins=["https://example.org"], allow_credentials=True)
    app: Any = CorrelationIdMiddleware(inner)
    token = BY_KEY["jwt"].headers["Authorization"].partition(" ")[2]

    async def once() -> object:
        scope = {
            **{"type": "http", "method": "GET", "path": "/me", "headers": list(headers)},
            **{"app": owner, "query_string": b"", "scheme": "http", "server": ("localhost", 80)},
            **{"root_path": "", "http_version": "1.1", "client": ("127.0.0.1", 1)},
        }
        await app(scope, nothing, nothing)
        return await work.user(work.user_of(token) or 0)

    return once


def chat() -> Callable[[], Awaitable[object]]:
    """Return a message by way of Redis: said, and heard by one member that costs nothing."""
    waiting: dict[str, asyncio.Future[None]] = {}

    async def send(_member: str, text: str) -> None:
        waiting.pop(text).set_result(None)

    room = work.Room(send)
    numbers = itertools.count()
    joined: list[asyncio.Task[None]] = []

    async def join() -> None:
        await room.join("member")
        await asyncio.sleep(0.2)  # it subscribes

    async def once() -> object:
        if not joined:
            joined.append(asyncio.create_task(join()))
        if not joined[0].done():
            await asyncio.shield(joined[0])
        text = f"message {next(numbers):056d}"
        heard = waiting[text] = asyncio.get_running_loop().create_future()
        await room.say(text)
        return await heard

    return once


class Meter:
    """Does an operation again and again, and tells what it cost."""

    def __init__(self, operation: Callable[[], Awaitable[object]], tasks: int) -> None:
        self.operation = operation
        self.tasks = tasks
        self.done = 0
        self.until = math.inf
        self.most: float = math.inf

    async def again(self) -> None:
        """Do it until the time is over, or all together have done it often enough."""
        while time.monotonic() < self.until and self.done < self.most:
            self.done += 1
            await self.operation()

    async def phase(self, seconds: float, most: float = math.inf) -> float:
        """Let all tasks do it; return the CPU that it took, in seconds."""
        self.done, self.most, self.until = 0, most, time.monotonic() + seconds
        before = time.process_time()
        await asyncio.gather(*[self.again() for _ in range(self.tasks)])
        return time.process_time() - before

    async def time(self, seconds: float) -> float:
        """Return the CPU of one operation, in seconds."""
        async with work.opened():
            await self.phase(seconds / 4)
            return await self.phase(seconds) / self.done

    async def count(self, most: int) -> None:
        """Do it so often between two lines, each of which is answered by one on standard input.

        Who counts instructions begins and ends there.
        """
        async with work.opened():
            await self.phase(math.inf, 200)
            print("ready", flush=True)
            sys.stdin.readline()
            await self.phase(math.inf, most)
            print("done", flush=True)
            sys.stdin.readline()


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes such a loop."""
    if loop == "uvloop":
        import uvloop  # lazy: TurboAPI's interpreter may be without it

        return uvloop.new_event_loop
    from turboapi.loop import new_event_loop  # lazy: the peers' interpreter is without it

    return new_event_loop


def main() -> None:
    """Measure and print."""
    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "row": lambda: work.row(7),
        "queries": lambda: work.queries(20),
        "fortunes": work.fortunes,
        "items": items,
        "items_sync": items_sync,
        "jwt": guarded(),
        "redis_get": work.redis_get,
        "redis_set": work.redis_set,
        "proxy": work.upstream,
        "chat": chat(),
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("operation", choices=operations)
    parser.add_argument("--loop", choices=["turboapi", "uvloop"], default="turboapi")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--count", type=int, help="so often, between two lines of input")
    options = parser.parse_args()
    tasks = min(32, BY_KEY[options.operation].connections)
    meter = Meter(operations[options.operation], tasks)
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        if options.count:
            runner.run(meter.count(options.count))
            return
        cpu = runner.run(meter.time(options.seconds))
    # A chat's figure is a share of what it costs to tell all its members.
    share = MEMBERS if options.operation == "chat" else 1
    print(json.dumps({"cpu_us": cpu / share * 1e6}))


if __name__ == "__main__":
    main()
