"""Libraries that wait in asyncio, called by handlers and dependencies of a server on a socket:
in the first step of a request and after it has waited."""

import asyncio
import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from typing import Annotated

import pytest
from server_kit import running

from turboapi import Depends, FastAPI


def answers(app: FastAPI, times: int = 20) -> set[tuple[int, bytes]]:
    """Return what `/` and, after a wait, `/?wait=1` answer, many times on several connections."""
    found = set()
    with running(app) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(4)]
        for n in range(times):
            for client in clients:
                client.request("GET", f"/?wait={n % 2}")
            for client in clients:
                response = client.getresponse()
                found.add((response.status, response.read()))
    return found


async def maybe_wait(wait: bool = False) -> None:
    if wait:
        await asyncio.sleep(0.001)


Wait = Depends(maybe_wait)


def test_aiosqlite(tmp_path):
    aiosqlite = pytest.importorskip("aiosqlite")
    app = FastAPI(dependencies=[Wait])

    async def database():
        async with aiosqlite.connect(tmp_path / "base.db") as db:
            yield db

    @app.get("/")
    async def handler(db: Annotated[aiosqlite.Connection, Depends(database)]):
        async with db.execute("SELECT 1 + 1") as cursor:
            return await cursor.fetchone()

    assert answers(app, 5) == {(200, b"[2]")}


def test_httpx():
    httpx = pytest.importorskip("httpx")
    app = FastAPI()
    other = FastAPI()

    @other.get("/")
    async def slow(n: int):
        await asyncio.sleep(0.001)
        return n

    async def client():
        async with httpx.AsyncClient() as client:
            yield client

    with running(other) as upstream:
        url = "http://{}:{}/".format(*upstream.address)

        @app.get("/", dependencies=[Wait])
        async def handler(client: Annotated[httpx.AsyncClient, Depends(client)]):
            replies = await asyncio.gather(*(client.get(url, params={"n": n}) for n in range(3)))
            return [reply.json() for reply in replies]

        assert answers(app, 5) == {(200, b"[0,1,2]")}


@pytest.fixture
def postgres():
    """Run a PostgreSQL of our own as an unprivileged user; yield what asyncpg needs to connect."""
    if os.environ.get("TURBOAPI_SANITIZED"):
        pytest.skip("PostgreSQL does not start with a sanitizer's library preloaded")
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [
        os.path.dirname(shutil.which("initdb") or "")
    ]
    if not os.path.exists(os.path.join(found[-1], "initdb")):
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = tempfile.mkdtemp(prefix="postgres-")  # whose parents its user may enter
    prefix = []
    if os.geteuid() == 0:  # which PostgreSQL refuses to run as
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL needs a user `postgres` when the tests run as root")
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(program, *args):
        subprocess.run(
            [*prefix, os.path.join(found[-1], program), "-D", folder, *args],
            check=True, cwd="/", stdout=subprocess.DEVNULL,
        )  # fmt: skip

    run("initdb", "-U", "tester", "-A", "trust", "--no-sync")
    run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o",
        f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -F")  # fmt: skip
    try:
        yield {"host": "127.0.0.1", "port": port, "user": "tester", "database": "postgres"}
    finally:
        run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder)


def test_asyncpg(postgres):
    asyncpg = pytest.importorskip("asyncpg")

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with asyncpg.create_pool(**postgres, min_size=1, max_size=3) as pool:
            yield {"pool": pool}

    app = FastAPI(lifespan=lifespan, dependencies=[Wait])

    from turboapi import Request

    async def connection(request: Request):
        async with request.state.pool.acquire() as connection, connection.transaction():
            yield connection

    @app.get("/")
    async def handler(db: Annotated[asyncpg.Connection, Depends(connection)]):
        async with asyncio.timeout(10):
            return await db.fetchval("SELECT sum(n) FROM generate_series(1, $1) n", 10)

    assert answers(app) == {(200, b"55")}
