"""Starts servers, drives them, and reads what they cost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cases import Case
from .servers import APPS, Server, Setup

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

# wrk's own text is for people; this prints its numbers.
LUA = """
wrk.method = %(method)s
wrk.body = %(body)s
%(headers)s
%(pipeline)s
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n@{"requests":%%d,"us":%%d,"bytes":%%d,"errors":%%d,"p50":%%d,"p99":%%d,"max":%%d}\\n',
    summary.requests, summary.duration, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""


# Several requests in one write; without this wrk makes its request only once.
PIPELINED = """
init = function()
  requests = wrk.format():rep(%d)
end
request = function()
  return requests
end
"""


class ServerFailed(Exception):
    """The server did not start, or does not answer as it should."""


@dataclass
class Result:
    """One case on one server.  Times in ms, CPU in us a request."""

    server: str
    case: str
    rps: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    errors: int
    requests: int
    mb_per_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def raise_limits() -> None:
    """Allow as many descriptors as the system does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port() -> int:
    """Return a port that nobody listens on, and that is no client's before the server takes it."""
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.randrange(10_000, int(ports[0]))
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("0.0.0.0", port))
            return port


def process_tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += process_tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Return what a process tree has used, in user and kernel mode."""
    ticks = 0
    for each in process_tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process tree."""
    pages = 0
    for each in process_tree(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * PAGE


@dataclass
class Running:
    """A server that answers."""

    pid: int
    port: int


def _wait_until_listening(
    process: subprocess.Popen[bytes], port: int, log: Path, seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"ended at once: {_tail(log)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.05)
    raise ServerFailed(f"does not listen: {_tail(log)}")


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


@contextlib.contextmanager
def serve(
    server: Server, setup: Setup, variant: str, cpus: set[int], seconds: float = 30
) -> Iterator[Running]:
    """Run a server pinned to some CPUs; it and all it started are gone afterwards.

    It must listen within so many seconds.
    """
    port = free_port()
    env = {**os.environ, **server.env, "BENCH_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                server.command(setup, variant, port),
                cwd=APPS,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cpus),
            )
        try:
            _wait_until_listening(process, port, log, seconds)
            time.sleep(0.3)
            yield Running(process.pid, port)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def check_answer(case: Case, port: int) -> None:
    """Make one request; the answer must be the right one."""
    if case.kind == "ws":
        return  # the client compares each echo
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(case.method, case.path, case.body or None, case.headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServerFailed(f"{case.key}: {error!r}") from error
    finally:
        connection.close()
    if response.status != case.status or not case.check(body):
        raise ServerFailed(f"{case.key}: status {response.status}, {body[:100]!r}")
    if case.needs_header and response.getheader(case.needs_header) is None:
        raise ServerFailed(f"{case.key}: no header {case.needs_header}")


def _lua(case: Case) -> str:
    return LUA % {
        "method": json.dumps(case.method),
        # A repeated character is written short: the script stays small.
        "body": f'string.rep("x", {len(case.body)})'
        if case.body and not case.body.strip("x")
        else json.dumps(case.body),
        "headers": "\n".join(
            f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in case.headers.items()
        ),
        "pipeline": PIPELINED % case.pipeline if case.pipeline > 1 else "",
    }


def _wrk(wrk: str, case: Case, port: int, seconds: float) -> dict[str, int]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_lua(case))
        script.flush()
        done = subprocess.run(
            [
                wrk,
                *[
                    "-t1",
                    f"-c{case.connections}",
                    f"-d{max(1, round(seconds))}s",
                    "--timeout",
                    "10s",
                ],
                *["-s", script.name, f"http://127.0.0.1:{port}{case.path}"],
            ],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            return dict(json.loads(line[1:]))
    raise ServerFailed(f"{case.key}: wrk: {(done.stderr or done.stdout).strip()[-200:]}")


def _ws_load(setup: Setup, case: Case, port: int, seconds: float) -> dict[str, int]:
    done = subprocess.run(
        [
            *[str(setup.build / "ws_load"), str(port), case.path],
            *[str(case.connections), f"{seconds:g}"],
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode != 0:
        raise ServerFailed(f"{case.key}: {done.stderr.strip()[-200:]}")
    found = json.loads(done.stdout)
    return {
        "requests": found["requests"],
        "us": int(found["seconds"] * 1e6),
        "bytes": 0,
        "errors": 0,
        "p50": 0,
        "p99": 0,
    }


def measure(
    server: Server, case: Case, running: Running, setup: Setup, wrk: str, seconds: float
) -> Result:
    """Warm up, then load the server for some seconds."""
    check_answer(case, running.port)

    def load(duration: float) -> dict[str, int]:
        if case.kind == "ws":
            return _ws_load(setup, case, running.port, duration)
        return _wrk(wrk, case, running.port, duration)

    load(min(1.0, seconds))
    before = cpu_seconds(running.pid)
    found = load(seconds)
    cpu = cpu_seconds(running.pid) - before
    requests = max(found["requests"], 1)
    took = max(found["us"], 1) / 1e6
    return Result(
        server=server.key,
        case=case.key,
        rps=requests / took,
        cpu_us=cpu / requests * 1e6,
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        errors=found["errors"],
        requests=found["requests"],
        mb_per_s=case.megabytes * requests / took,
    )


def _open_connections(port: int, count: int, request: bytes) -> list[socket.socket]:
    """Open connections, each of which has had one answer."""
    opened = []
    try:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), 10)
            opened.append(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(request)
            if not sock.recv(65536).startswith(b"HTTP/1.1 200"):
                raise ServerFailed("no answer on one of many connections")
    except OSError as error:
        for sock in opened:
            sock.close()
        raise ServerFailed(f"cannot open {count} connections: {error}") from error
    return opened


def burst(port: int, count: int = 1000) -> dict[str, float]:
    """Send `count` requests that sleep 100 ms at once, on open connections; time their answers."""
    hello = b"GET /async HTTP/1.1\r\nHost: localhost\r\n\r\n"
    request = b"GET /sleep100 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    opened = _open_connections(port, count, hello)
    poll = select.epoll()
    try:
        by_fd = {sock.fileno(): sock for sock in opened}
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        sent: dict[int, float] = {}
        start = time.perf_counter()
        for fd, sock in by_fd.items():
            sent[fd] = time.perf_counter()
            sock.send(request)
        latencies = []
        end = start + 10
        last = start
        while len(latencies) < count and (last := time.perf_counter()) < end:
            for fd, _ in poll.poll(1, 512):
                if by_fd[fd].recv(65536).startswith(b"HTTP/1.1 200"):
                    latencies.append(time.perf_counter() - sent[fd])
        last = time.perf_counter()
    finally:
        poll.close()
        for sock in opened:
            sock.close()
    if len(latencies) < count:
        raise ServerFailed(f"burst: {len(latencies)} of {count} were answered")
    latencies.sort()
    return {
        "connections": count,
        "all_ms": (last - start) * 1000,
        "worst_ms": latencies[-1] * 1000,
        "median_ms": latencies[count // 2] * 1000,
    }


def idle_memory(running: Running, count: int = 4000) -> dict[str, float]:
    """Measure how much resident memory a connection takes that waits for its next request."""
    request = b"GET /async HTTP/1.1\r\nHost: localhost\r\n\r\n"
    count = min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    for sock in _open_connections(running.port, 10, request):
        sock.close()
    time.sleep(0.3)
    before = resident_bytes(running.pid)
    try:
        opened = _open_connections(running.port, count, request)
    except ServerFailed:  # it refuses so many: fewer then
        count = 500
        before = resident_bytes(running.pid)
        opened = _open_connections(running.port, count, request)
    try:
        after = resident_bytes(running.pid)
    finally:
        for sock in opened:
            sock.close()
    return {"connections": count, "bytes": (after - before) / count, "total_mb": after / 1e6}
