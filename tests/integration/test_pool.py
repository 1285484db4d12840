"""Threads for `def` handlers and dependencies: what happens when all of them are taken."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import pytest
from pydantic import BaseModel
from server_kit import both_protocols, running, wait_for

from turboapi import Depends, FastAPI


def serving(app, **settings):
    return running(app, interface="turboapi", **settings)


@both_protocols
@pytest.mark.parametrize("threads", [1, 3])
def test_dependencies_are_left_while_all_threads_wait_for_that(threads):
    """As FastAPI: else nobody would ever get a connection from a pool that is used up."""
    app = FastAPI()
    connections = threading.Semaphore(1)

    def connection():
        assert connections.acquire(timeout=120)
        try:
            yield 1
        finally:
            connections.release()

    @app.get("/")
    async def index(one: Annotated[int, Depends(connection)]):
        await asyncio.sleep(0.001)
        return one

    with (
        serving(app, thread_pool=threads) as server,
        ThreadPoolExecutor(12) as clients,
    ):
        # More at once than there are threads: all of these wait for the connection.
        answers = list(clients.map(lambda _: server.get("/")[0], range(24)))
        assert answers == [200] * 24
        wait_for(lambda: server.server.tasks == 0)
        # The threads beyond the limit have ended.
        wait_for(
            lambda: (
                sum(t.name == "turboapi worker thread" for t in threading.enumerate()) <= threads
            ),
            60,
        )


def test_what_a_thread_drops_last_is_freed():
    """Without the GIL the loop's thread frees it (PEP 703), where no Python code runs otherwise."""
    app = FastAPI()
    freed = []

    class Item(BaseModel):
        number: int

        def __del__(self):
            freed.append(self.number)

    @app.post("/", run="thread")
    def index(item: Item):
        return item.number

    headers = {"content-type": "application/json"}
    with serving(app) as server:
        for number in range(3):
            body = json.dumps({"number": number})
            assert server.request("POST", "/", body, headers)[0] == 200
            wait_for(lambda count=number + 1: len(freed) == count)


@both_protocols
def test_the_thread_that_was_idle_for_the_shortest_time_is_taken():
    """As anyio's: what a dependency made in its thread, the handler mostly finds in the same one."""
    app = FastAPI()
    together = threading.Barrier(6)

    @app.get("/all", run="thread")
    def everywhere() -> int:
        together.wait(120)
        return threading.get_ident()

    @app.get("/one", run="thread")
    def somewhere() -> int:
        return threading.get_ident()

    with serving(app, thread_pool=6) as server, ThreadPoolExecutor(6) as clients:
        threads = {body for _, _, body in clients.map(lambda _: server.get("/all"), range(6))}
        assert len(threads) == 6
        used = []
        for _ in range(60):
            used.append(server.get("/one")[2])
            time.sleep(0.005)  # it is idle again, unless the machine is very busy
        assert max(used.count(thread) for thread in threads) > 30
