"""One plan, many loops: runs of several threads at once share nothing that changes."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from plan_kit import Invalid, call, field, node, param, plan  # noqa: E402

JSON = [(b"content-type", b"application/json")]


async def asynchronous(q: int) -> int:
    await asyncio.sleep(0)
    return q


def synchronous(a: int) -> int:
    return a + 1


async def generator(b: int) -> Any:
    yield b + 1


async def endpoint(c: int, item: dict[str, int]) -> Any:
    return {"c": c, **item}


MADE = plan(
    node(asynchronous, parent=1, name="a", cache=0, params=[param("q", kind=int)]),
    node(synchronous, "sync", parent=2, name="b", cache=1, run="inline"),
    node(generator, "asyncgen", parent=3, name="c", cache=2),
    node(endpoint, body={"single": {"name": "item", **field(dict[str, int])}}),
    body="json",
)


async def requests(number: int, count: int) -> None:
    for i in range(count):
        q = number * count + i
        got = await call(MADE, f"q={q}".encode(), JSON, body=[b'{"i":%d}' % i])
        assert got.json == {"c": q + 2, "i": i}
        if i % 10 == 0:
            try:
                await call(MADE, b"q=x", JSON, body=[b'{"i":"x"}'])
            except Invalid as exc:
                assert len(exc.errors) == 2
            else:
                raise AssertionError


def test_a_plan_is_shared_by_threads() -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def run(number: int) -> None:
        try:
            start.wait()
            asyncio.run(requests(number, 300))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
