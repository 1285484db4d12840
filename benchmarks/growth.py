#!/usr/bin/env python3
"""Measures how the cost of a request grows: with routes, connections, headers, body, dependencies.

Cost is the CPU time of the server process per request, user and kernel; for connections also the
resident memory of one, and for routes the CPU time until the server answers.  Each figure is the
median of several rounds over all sizes.  See README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import re
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import growth_report, install, measure, options
from harness.cases import Case
from harness.measure import Running, ServerFailed
from harness.servers import APPS, HERE, Server, Setup

ROUTES = (10, 100, 1_000, 10_000)
CONNECTIONS = (10, 100, 1_000, 5_000, 10_000, 20_000)
FIELDS = (1, 10, 25, 50, 75, 100)
BODIES = (1_000, 10_000, 100_000, 1_000_000)
DEPENDENCIES = (0, 1, 5, 10, 25, 50)
WRK_CONNECTIONS = 32
LARGE = 50_000  # beyond it fewer are in flight: what is unfinished at the end counts, too
ROW = '{"id":1000,"name":"Widget number one","price":9.5,"tags":["a","b","c"]}'
BOUNDARY = "growth-boundary"
PER_ADDRESS = 5_000  # connections from one loopback address: it has some 28,000 ports
SPARE = 100  # descriptors that are not connections
FEWEST_ACTIVE = 10  # with fewer, a server mostly goes to sleep and wakes up
KEEP_ALIVE = ["--timeout-keep-alive", "3600"]  # an idle connection stays open
START_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a plot: what a request costs at each size."""

    key: str
    title: str
    make: Callable[[int], Case]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One plot."""

    key: str
    title: str
    unit: str
    sizes: tuple[int, ...]
    lines: tuple[Line, ...] = ()


def get(path: str, headers: dict[str, str] | None = None, status: int = 200) -> Case:
    """Return a case that needs no particular answer."""
    return Case(
        path,
        path,
        path,
        lambda body: bool(body),
        headers=headers or {},
        connections=WRK_CONNECTIONS,
        status=status,
    )


def post(path: str, body: str, content_type: str) -> Case:
    """Return a case with a body."""
    return dataclasses.replace(
        get(path, {"Content-Type": content_type}),
        method="POST",
        body=body,
        connections=2 if len(body) > LARGE else 8,
    )


def resource_path(number: int) -> Case:
    """Return a request for one of many resources."""
    return get(f"/api/v1/resource{number}/7")


def fields(path: str) -> Callable[[int], Case]:
    """Return what makes requests with so many header fields, one of which is wrk's Host."""

    def make(count: int) -> Case:
        names = [f"X-Field-{number}" for number in range(count - 2)] + ["X-Last"] * (count > 1)
        return get(path, dict.fromkeys(names, "some value of a field"))

    return make


def json_rows(size: int) -> Case:
    """Return a body of about so many bytes that is validated row by row."""
    rows = max(1, (size - 2) // (len(ROW) + 1))
    return post("/json", "[" + ",".join([ROW] * rows) + "]", "application/json")


def raw(size: int) -> Case:
    """Return a body of bytes."""
    return post("/raw", "x" * size, "application/octet-stream")


def multipart(size: int) -> Case:
    """Return a form with one file of so many bytes."""
    head = 'Content-Disposition: form-data; name="upload"; filename="a.bin"'
    body = f"--{BOUNDARY}\r\n{head}\r\n\r\n{'x' * size}\r\n--{BOUNDARY}--\r\n"
    return post("/file", body, f"multipart/form-data; boundary={BOUNDARY}")


CURVES = (
    Curve(
        "routes",
        "Routes",
        "routes",
        ROUTES,
        (
            Line("first", "the first one", lambda _count: resource_path(0)),
            Line("last", "the last one", lambda count: resource_path(count - 1)),
            Line("none", "404", lambda _count: get("/api/v1/nothing/7", status=404)),
        ),
    ),
    Curve("connections", "Connections", "open connections", CONNECTIONS),
    Curve(
        "fields",
        "Header fields",
        "fields of a request",
        FIELDS,
        (
            Line("ignored", "none is read", fields("/constant")),
            Line("read", "the last one is a parameter", fields("/field")),
        ),
    ),
    Curve(
        "body",
        "Body",
        "bytes of a body",
        BODIES,
        (
            Line("json", "JSON rows, validated", json_rows),
            Line("raw", "request.body()", raw),
            Line("file", "multipart file", multipart),
        ),
    ),
    Curve(
        "dependencies",
        "Dependencies",
        "dependencies in a chain",
        DEPENDENCIES,
        (
            Line("plain", "async def", lambda count: get(f"/plain/{count}")),
            Line("yield", "with yield", lambda count: get(f"/yield/{count}")),
        ),
    ),
)
BY_KEY = {curve.key: curve for curve in CURVES}


def turboapi(setup: Setup, _variant: str, port: int) -> list[str]:
    """Return the project's own server."""
    return [
        *[setup.python, "-m", "turboapi", "run", "growth_app:app", "--app-dir", str(APPS)],
        *["--port", str(port), "--no-access-log", "--log-level", "warning"],
        *[*KEEP_ALIVE, "--backlog", "4096", "--limit-header-count", "200", *setup.turboapi_args],
    ]


def uvicorn(setup: Setup, _variant: str, port: int) -> list[str]:
    """Return FastAPI's usual server."""
    return [
        *[setup.peer_python, "-m", "uvicorn", "growth_app:app", "--app-dir", str(APPS)],
        *["--port", str(port), "--no-access-log", "--log-level", "warning"],
        *[*KEEP_ALIVE, "--backlog", "4096"],
    ]


SERVERS = {
    "turboapi": Server("turboapi", "TurboAPI", turboapi, [], env={"BENCH_FRAMEWORK": "turboapi"}),
    "fastapi-uvicorn": Server(
        "fastapi-uvicorn",
        "FastAPI + uvicorn",
        uvicorn,
        [],
        "fastapi",
        {"BENCH_FRAMEWORK": "fastapi"},
    ),
}


# -- connections ------------------------------------------------------------------------------

REQUEST = b"GET /constant HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answered(sock: socket.socket) -> bool:
    """Read one answer, which may come in pieces; return whether it is a good one."""
    data = b""
    while True:
        piece = sock.recv(65536)
        data += piece
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if not piece or (end and (length is None or len(body) >= int(length[1]))):
            return head.startswith(b"HTTP/1.1 200") and length is not None


class Clients:
    """Many connections of which a few have a request in flight, others in turn."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._poll = select.epoll()
        self._idle: list[socket.socket] = []
        self._busy: dict[int, socket.socket] = {}
        self._random = random.Random(1)

    def __len__(self) -> int:
        return len(self._idle)

    def grow(self, count: int) -> None:
        """Open connections until there are so many; each has had one answer."""
        while len(self._idle) < count:
            source = f"127.0.0.{2 + len(self._idle) // PER_ADDRESS}"
            sock = socket.create_connection(
                ("127.0.0.1", self._port), 10, source_address=(source, 0)
            )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(REQUEST)
            if not answered(sock):
                raise ServerFailed(f"no answer on connection {len(self._idle)}")
            self._poll.register(sock, select.EPOLLIN)
            self._idle.append(sock)

    def _send(self) -> None:
        at = self._random.randrange(len(self._idle))
        self._idle[at], self._idle[-1] = self._idle[-1], self._idle[at]
        sock = self._idle.pop()
        self._busy[sock.fileno()] = sock
        sock.send(REQUEST)

    def load(self, active: int, seconds: float) -> int:
        """Keep so many requests in flight, each on a connection picked at random; count answers."""
        until = time.monotonic() + seconds
        answers = 0
        for _ in range(min(active, len(self._idle))):
            self._send()
        while self._busy:
            ready = self._poll.poll(10)
            if not ready:
                raise ServerFailed("no answer on one of many connections")
            go_on = time.monotonic() < until
            for fd, _ in ready:
                sock = self._busy.pop(fd, None)
                if sock is None or not answered(sock):
                    raise ServerFailed("one of many connections was closed")
                self._idle.append(sock)
                answers += 1
            for _ in ready if go_on else ():
                self._send()
        return answers

    def close(self) -> None:
        """Close them all."""
        for sock in (*self._idle, *self._busy.values()):
            sock.close()
        self._poll.close()


# -- measuring --------------------------------------------------------------------------------


class Growth:
    """Runs the curves; `figures[server][curve][line][size]` are the results of the rounds."""

    def __init__(self, args: argparse.Namespace, setup: Setup, wrk: str, cpus: set[int]) -> None:
        self._args = args
        self._setup = setup
        self._wrk = wrk
        self._cpus = cpus
        self.figures: dict[str, dict[str, dict[str, dict[int, list[float]]]]] = {}
        self.failures: list[str] = []

    def _note(self, server: Server, curve: str, line: str, size: int, value: float) -> None:
        lines = self.figures.setdefault(server.key, {}).setdefault(curve, {})
        lines.setdefault(line, {}).setdefault(size, []).append(value)
        print(f"{server.title:20s} {curve:13s} {line:12s} {size:>9,d} {value:12,.2f}", flush=True)

    @contextlib.contextmanager
    def _serve(self, server: Server, routes: int = 10) -> Iterator[Running]:
        changed = dataclasses.replace(server, env={**server.env, "GROWTH_ROUTES": str(routes)})
        with measure.serve(changed, self._setup, "", self._cpus, START_SECONDS) as running:
            yield running

    def _request(self, server: Server, curve: Curve, size: int, running: Running) -> None:
        for line in curve.lines:
            try:
                result = measure.measure(
                    server,
                    line.make(size),
                    running,
                    self._setup,
                    self._wrk,
                    self._args.duration,
                )
            except (ServerFailed, subprocess.TimeoutExpired) as error:
                self.failures.append(f"{server.title}: {curve.key}, {line.key}, {size}: {error}")
                continue
            self._note(server, curve.key, line.key, size, result.cpu_us)

    def run(self, server: Server, curve: Curve) -> None:
        """Run one round of one curve."""
        if curve.key == "connections":
            self._connections(server, curve)
        elif curve.key == "routes":
            for size in curve.sizes:
                with self._serve(server, size) as running:
                    measure.check_answer(resource_path(0), running.port)
                    used = measure.cpu_seconds(running.pid)
                    self._note(server, curve.key, "startup", size, used)
                    self._request(server, curve, size, running)
        else:
            with self._serve(server) as running:
                for size in curve.sizes:
                    self._request(server, curve, size, running)

    def _connections(self, server: Server, curve: Curve) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE
        with self._serve(server) as running:
            clients = Clients(running.port)
            try:
                clients.grow(curve.sizes[0])
                clients.load(len(clients), 0.5)
                before = measure.resident_bytes(running.pid)
                for size in curve.sizes:
                    clients.grow(min(size, most))
                    if size > curve.sizes[0]:
                        grown = measure.resident_bytes(running.pid) - before
                        new = len(clients) - curve.sizes[0]
                        self._note(server, curve.key, "memory", len(clients), grown / new)
                    for line, active in (
                        ("percent", max(FEWEST_ACTIVE, size // 100)),
                        ("ten", FEWEST_ACTIVE),
                    ):
                        used = measure.cpu_seconds(running.pid)
                        answers = clients.load(active, self._args.duration)
                        used = measure.cpu_seconds(running.pid) - used
                        self._note(server, curve.key, line, len(clients), used / answers * 1e6)
            finally:
                clients.close()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--curves", default=",".join(BY_KEY), help="default: all of %(default)s")
    options.add_common(parser, list(SERVERS))
    parser.add_argument("--duration", type=float, default=1.0, help="seconds a size (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the median of them counts")
    args = parser.parse_args()
    args.curves = options.keys(args.curves, list(BY_KEY), "curve")
    args.servers = options.keys(args.servers, list(SERVERS), "server")
    if args.rounds < 1 or args.duration <= 0:
        parser.error("--rounds and --duration must be positive")
    return args


def prepare(args: argparse.Namespace) -> tuple[Setup, dict[str, str]]:
    """Install what is compared and what draws."""
    peers = (args.peers or HERE / ".peers").absolute()
    setup = Setup(args.python, peers, args.out / "build", args.turboapi_args.split())
    names = ["fastapi", "uvicorn", "uvloop", "httptools", "matplotlib"]
    if args.no_install:
        versions = install.versions(setup.peer_python, names)
    else:
        versions, failures = install.install_peers(peers, args.python)
        for failure in failures:
            install.say(failure)
    return setup, versions | install.versions(args.python, ["turboapi", "pydantic"])


def main() -> int:
    """Set up, run, write the report."""
    args = parse()
    measure.raise_limits()
    setup, versions = prepare(args)
    wrk = install.find_wrk()
    server_cpus, client_cpus = options.pick_cpus(args)
    os.sched_setaffinity(0, client_cpus)
    growth = Growth(args, setup, wrk, server_cpus)
    for _ in range(args.rounds):
        for curve in args.curves:
            for key in args.servers:
                try:
                    growth.run(SERVERS[key], BY_KEY[curve])
                except (ServerFailed, OSError) as error:
                    growth.failures.append(f"{SERVERS[key].title}: {curve}: {error}")
                    install.say(growth.failures[-1])
    write(args, growth, versions, setup)
    return 0 if growth.figures and not growth.failures else 1


def write(args: argparse.Namespace, growth: Growth, versions: dict[str, str], setup: Setup) -> None:
    """Write the medians, the tables and the plots."""
    data: dict[str, Any] = {
        "meta": {
            **options.machine(args),
            "versions": versions,
            "duration": args.duration,
            "rounds": args.rounds,
        },
        "curves": {
            curve.key: {
                "title": curve.title,
                "unit": curve.unit,
                "lines": {line.key: line.title for line in curve.lines},
            }
            for curve in CURVES
        },
        "figures": {
            server: {
                curve: {
                    line: [[size, statistics.median(found)] for size, found in sizes.items()]
                    for line, sizes in lines.items()
                }
                for curve, lines in curves.items()
            }
            for server, curves in growth.figures.items()
        },
        "failures": growth.failures,
    }
    text = growth_report.markdown(data)
    options.write(args, setup, "growth", data, text, HERE / "harness" / "growth_plot.py")


if __name__ == "__main__":
    sys.exit(main())
