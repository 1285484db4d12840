#!/usr/bin/env python3
"""Does the memory of a server stay flat? Sends many requests of each kind and watches the server.

    scripts/soak.py                           # every kind, 300,000 requests (5,000 WebSockets)
    scripts/soak.py --kinds form,gone --requests 20000 --option loop=uvloop

The server is `turboapi run` in a process of its own on a free port of 127.0.0.1. The first fifth of
the requests of a kind warms it up; from there to the end its resident memory may grow by --limit
MiB. The exit code is 1 when a kind grew by more, or an answer was not what it should be.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

APPLICATION = """
import asyncio
import os
from typing import Annotated

from turboapi import (
    BackgroundTasks, Depends, FastAPI, File, Form, Request, UploadFile, WebSocket,
)
from starlette.responses import StreamingResponse

app = FastAPI()
for number in range(100):
    app.get(f"/route/{number}/{{name}}")(lambda name: name)
open_streams = 0


@app.get("/pid")
def pid():
    return os.getpid()


@app.get("/streams")
def streams():
    return open_streams


@app.get("/error")
async def error(request: Request):
    request.state.large = bytearray(1000)
    raise ValueError("unhandled")


@app.post("/form")
async def form(name: Annotated[str, Form()], count: Annotated[int, Form()]):
    return {"name": name, "count": count}


@app.post("/multipart")
async def multipart(file: UploadFile, note: Annotated[str, Form()]):
    return {"size": len(await file.read()), "name": file.filename, "note": note}


async def resource():
    held = bytearray(1000)
    yield held
    await asyncio.sleep(0)


def sync_resource(outer: Annotated[bytearray, Depends(resource)]):
    yield outer + b"x"


@app.get("/yield")
async def yields(held: Annotated[bytearray, Depends(sync_resource)]):
    return len(held)


@app.get("/stream")
async def stream(kind: str = "async"):
    async def pieces():
        global open_streams
        open_streams += 1
        try:
            for _ in range(1000):
                yield b"x" * 1000
                await asyncio.sleep(0.001)
        finally:
            open_streams -= 1

    return StreamingResponse(pieces())


@app.get("/invalid")
async def invalid(count: int):
    return count


@app.get("/wait")
async def wait():
    await asyncio.sleep(0.0001)
    return "waited"


@app.get("/background")
async def background(tasks: BackgroundTasks):
    tasks.add_task(asyncio.sleep, 0)
    return "later"


@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


inner = FastAPI()


@inner.middleware("http")
async def add_field(request: Request, call_next):
    response = await call_next(request)
    response.headers["x-soak"] = "1"
    return response


@inner.get("/")
async def behind():
    return "behind"


app.mount("/middleware", inner)
"""

BATCH = 32


@dataclass(frozen=True)
class Target:
    """The server under test."""

    port: int
    pid: int

    def connect(self) -> socket.socket:
        """Return a new connection, with a limit on every wait."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def resident(self) -> int:
        """Bytes of memory that the server has now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def ask(self, path: str) -> bytes:
        """Return the body of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


def request(method: str, path: str, body: bytes = b"", kind: str = "") -> bytes:
    """Return the bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: soak\r\n"
    if body:
        head += f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


# -- how each kind is sent: a generator of the number of requests that were answered ---------------


def one_answer(sock: socket.socket, data: bytes) -> bytes:
    """Send a request and read its answer, which has a content-length."""
    sock.sendall(data)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += receive(sock)
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += receive(sock)
    return head + b"\r\n\r\n" + body


def receive(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 16)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def pipelined(data: bytes, status: bytes) -> Callable[[Target], Iterator[int]]:
    """Send requests in batches on one connection; all answers have the same length."""

    def send(target: Target) -> Iterator[int]:
        with target.connect() as sock:
            first = one_answer(sock, data)
            if not first.startswith(b"HTTP/1.1 " + status):
                raise ValueError(f"{status!r} expected, not {first[:200]!r}")
            yield 1
            while True:
                sock.sendall(data * BATCH)
                missing = len(first) * BATCH
                while missing > 0:
                    missing -= len(receive(sock))
                if missing < 0:
                    raise ValueError("an answer is longer than the first one")
                yield BATCH

    return send


def gone(target: Target) -> Iterator[int]:
    """Clients that leave a stream after its first bytes; most reset the connection."""
    data = request("GET", "/stream")
    number = 0
    while True:
        number += 1
        with target.connect() as sock:
            sock.sendall(data)
            if not receive(sock).startswith(b"HTTP/1.1 200"):
                raise ValueError("200 expected")
            if number % 20:  # not always: a port that was closed in order is taken for a minute
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        yield 1


def websockets(target: Target) -> Iterator[int]:
    """Open, one message, close."""
    handshake = (
        b"GET /ws HTTP/1.1\r\nhost: soak\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    hello = b"\x81\x85\0\0\0\0hello"
    close = b"\x88\x82\0\0\0\0\x03\xe8"
    while True:
        with target.connect() as sock:
            sock.sendall(handshake)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += receive(sock)
            if not answer.startswith(b"HTTP/1.1 101"):
                raise ValueError(f"101 expected, not {answer[:200]!r}")
            sock.sendall(hello)
            if receive(sock) != b"\x81\x05hello":
                raise ValueError("the echo is wrong")
            sock.sendall(close)
            while sock.recv(1000):
                pass
        yield 1


FORM = "application/x-www-form-urlencoded"
MULTIPART = (
    b'--b\r\ncontent-disposition: form-data; name="note"\r\n\r\nhello\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n'
    b"content-type: text/plain\r\n\r\n" + b"x" * 2000 + b"\r\n--b--\r\n"
)

KINDS: dict[str, Callable[[Target], Iterator[int]]] = {
    "error": pipelined(request("GET", "/error"), b"500"),
    "form": pipelined(request("POST", "/form", b"name=a+b&count=7", FORM), b"200"),
    "multipart": pipelined(
        request("POST", "/multipart", MULTIPART, "multipart/form-data; boundary=b"), b"200"
    ),
    "yield": pipelined(request("GET", "/yield"), b"200"),
    "missing": pipelined(request("GET", "/wp-admin/setup.php"), b"404"),
    "method": pipelined(request("DELETE", "/route/7/x"), b"405"),
    "invalid": pipelined(request("GET", "/invalid?count=x"), b"422"),
    "wait": pipelined(request("GET", "/wait"), b"200"),
    "background": pipelined(request("GET", "/background"), b"200"),
    "middleware": pipelined(request("GET", "/middleware/"), b"200"),
    "gone": gone,
    "websocket": websockets,
}
FEWER = {"websocket": 5_000}


@contextmanager
def serving(folder: Path, options: list[str]) -> Iterator[Target]:
    """`turboapi run`, until it answers."""
    (folder / "soak_app.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "turboapi", "run", "soak_app:app", "--app-dir", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    for option in options:
        name, _, value = option.partition("=")
        command += [f"--{name}", *([value] if value else [])]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        target = Target(port, process.pid)
        while True:
            with suppress(OSError):
                yield Target(port, int(target.ask("/pid")))
                return
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"the server did not start:\n{(folder / 'log.txt').read_text()}")
            time.sleep(0.1)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def soak(target: Target, kind: str, requests: int) -> tuple[int, int, int, float]:
    """Resident bytes after the first fifth, at the highest and at the end, and the seconds."""
    sent = 0
    after_warm_up = highest = 0
    begun = time.monotonic()
    last_shown = begun
    for answered in KINDS[kind](target):
        sent += answered
        now = time.monotonic()
        if after_warm_up == 0 and sent >= requests / 5:
            after_warm_up = target.resident()
        if now - last_shown > 1:
            last_shown = now
            highest = max(highest, target.resident())
            if sys.stderr.isatty():
                print(f"\r{kind}: {sent:,} of {requests:,}", end="", file=sys.stderr, flush=True)
        if sent >= requests:
            break
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if kind == "gone":
        until = time.monotonic() + 30
        while target.ask("/streams") != b"0" and time.monotonic() < until:
            time.sleep(0.1)
        if target.ask("/streams") != b"0":
            raise ValueError("streams of clients that have gone are still open")
    end = target.resident()
    return after_warm_up, max(highest, end), end, time.monotonic() - begun


def main() -> int:
    """Run the kinds one after the other, each on a new server."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    parser.add_argument("--requests", type=int, default=300_000, help="of each kind")
    parser.add_argument("--limit", type=float, default=4.0, help="MiB that a kind may grow by")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME[=VALUE]", help="for turboapi run"
    )
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    for kind in kinds:
        if kind not in KINDS:
            parser.error(f"--kinds: {kind!r} is none of {', '.join(KINDS)}")
    failed = False
    print(
        f"{'kind':<12}{'requests':>10}{'s':>8}{'warm':>9}{'highest':>9}{'end':>9}{'growth':>9}  MiB"
    )
    for kind in kinds:
        requests = min(arguments.requests, FEWER.get(kind, arguments.requests))
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(Path(folder), arguments.option) as target,
        ):
            warm, highest, end, took = soak(target, kind, requests)
        growth = (end - warm) / 2**20
        failed |= growth > arguments.limit
        print(
            f"{kind:<12}{requests:>10,}{took:>8.1f}{warm / 2**20:>9.1f}{highest / 2**20:>9.1f}"
            f"{end / 2**20:>9.1f}{growth:>9.2f}  {'GREW' if growth > arguments.limit else ''}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
