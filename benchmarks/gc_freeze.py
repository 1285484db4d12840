"""What `--gc-freeze` does to the slowest requests of an application with a large heap.

    python benchmarks/gc_freeze.py --megabytes 300 --seconds 20 --repeat 3

Serves an application that keeps so much in lists and dicts, and whose requests keep a little more
in a ring (a cache), with and without the setting by turns. An open-loop client sends at a steady
rate, each request at its time whether or not others were answered; latency counts from that time.
The server itself tells how long its longest collection took (processor time).
"""

import argparse
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

CONNECTIONS = 16
PER_REQUEST = 50
RING = 5000

# -- the application -------------------------------------------------------------------------------

if "GC_FREEZE_MEGABYTES" in os.environ:
    from turboapi import FastAPI

    app = FastAPI()
    # About 0.5 KB an item: a dict with a list and a string.
    heap = [
        {"id": i, "tags": [i, i + 1], "name": f"item {i}"}
        for i in range(int(os.environ["GC_FREEZE_MEGABYTES"]) * 2200)
    ]
    ring: deque[Any] = deque(maxlen=RING)
    pauses = {"longest": 0.0, "total": 0.0, "count": 0, "begun": 0.0}

    def on_collection(phase: str, info: dict[str, int]) -> None:
        """Measure the full collections."""
        if info["generation"] < 2:
            return
        if phase == "start":
            pauses["begun"] = time.thread_time()
            return
        took = time.thread_time() - pauses["begun"]
        pauses["longest"] = max(pauses["longest"], took)
        pauses["total"] += took
        pauses["count"] += 1

    @app.get("/")
    async def work(i: int = 0) -> dict[str, int]:
        """Keep something."""
        ring.append([{"a": i, "b": [n]} for n in range(PER_REQUEST)])
        return {"kept": len(ring)}

    @app.get("/pauses")
    async def tell() -> dict[str, float]:
        """Tell the pauses since the last time."""
        told = dict(pauses)
        pauses.update(longest=0.0, total=0.0, count=0)
        if on_collection not in gc.callbacks:
            gc.callbacks.append(on_collection)
        return told


# -- the client ------------------------------------------------------------------------------------


def ask(port: int, path: str) -> Any:
    """Return the JSON of one response."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    return json.loads(data.partition(b"\r\n\r\n")[2])


def load(port: int, rate: int, seconds: float) -> list[float]:
    """Send at that rate and return the latencies, sorted."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    due_of: dict[int, deque[float]] = {each.fileno(): deque() for each in connections}
    by_fd = {each.fileno(): each for each in connections}
    poll = select.epoll()
    for each in connections:
        poll.register(each, select.EPOLLIN)
    latencies: list[float] = []
    begun, sent, count = time.monotonic(), 0, int(rate * seconds)
    while len(latencies) < count:
        now = time.monotonic()
        while sent < count and begun + sent / rate <= now:
            each = connections[sent % CONNECTIONS]
            due_of[each.fileno()].append(begun + sent / rate)
            each.sendall(request)
            sent += 1
        wait = max(0.0, begun + sent / rate - now) if sent < count else 5.0
        for fd, _ in poll.poll(wait):
            answers = by_fd[fd].recv(65536).count(b"HTTP/1.1 200")
            now = time.monotonic()
            for _ in range(answers):
                latencies.append(now - due_of[fd].popleft())
    for each in connections:
        each.close()
    return sorted(latencies)


def measure(option: str, given: argparse.Namespace) -> dict[str, float]:
    """Serve once and return the figures in milliseconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "turboapi", "run", f"{Path(__file__).stem}:app", option),
            *("--app-dir", str(Path(__file__).parent), "--port", str(port), "--no-access-log"),
            *("--log-level", "error", "--timeout-loop-stall", "0"),
        ],
        env={**os.environ, "GC_FREEZE_MEGABYTES": str(given.megabytes)},
    )
    try:
        while True:
            try:
                ask(port, "/pauses")
                break
            except OSError:
                time.sleep(0.1)
        found = load(port, given.rate, given.seconds)
        pauses = ask(port, "/pauses")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = {
        f"p{100 * part:g}": 1000 * found[int(part * len(found))] for part in (0.5, 0.99, 0.999)
    }
    return {
        **result,
        "longest collection": 1000 * pauses["longest"],
        "full collections": pauses["count"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--rate", type=int, default=500, help="requests per second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    version = sys.version.split()[0]
    print(f"Python {version}, {given.megabytes} MB; milliseconds, best of {given.repeat}")
    rounds: dict[str, list[dict[str, float]]] = {"--no-gc-freeze": [], "--gc-freeze": []}
    for _ in range(given.repeat):
        for option, results in rounds.items():
            results.append(measure(option, given))
    for option, results in rounds.items():
        best = {name: min(each[name] for each in results) for name in results[0]}
        print(f"{option:16}", "  ".join(f"{name} {value:.1f}" for name, value in best.items()))


if __name__ == "__main__":
    main()
