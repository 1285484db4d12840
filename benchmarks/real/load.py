"""Runs the load generators and reads what they print."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.measure import Running, ServerFailed, cpu_seconds, resident_bytes
from harness.servers import Setup

from .cases import Case

WARM_UP = 0.5


def percentile(histogram: Sequence[Sequence[int]], share: float) -> float:
    """Return the latency, in the histogram's unit, within which that share was answered.

    The histogram's pairs are the upper end of a bucket and the count in it, in order. It is 0 for
    an empty one.
    """
    total = sum(count for _, count in histogram)
    rank = max(1, math.ceil(total * share))
    passed = 0
    for end, count in histogram:
        passed += count
        if passed >= rank:
            return end
    return 0


@dataclass
class Load:
    """What one run of a generator found. Times in ms, CPU in us a request, memory in MB."""

    rate: float
    rps: float
    cpu_us: float
    p50: float
    p99: float
    p999: float
    requests: int
    errors: int
    unanswered: int
    memory: float

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def read(text: str, rate: float, cpu: float = 0.0, memory: float = 0.0) -> Load:
    """Read a generator's line; `cpu` is what the server used meanwhile, in seconds.

    Those who were never answered wait longer than everybody: they count as the slowest.
    """
    found = json.loads(text)
    histogram = found["histogram"]
    if found["unanswered"]:
        histogram = [*histogram, [10**9, found["unanswered"]]]
    requests = found["requests"]
    if requests == 0:
        raise ServerFailed("nothing was answered")
    return Load(
        rate=rate,
        rps=requests / found["seconds"],
        cpu_us=cpu / found["answered"] * 1e6,
        p50=percentile(histogram, 0.5) / 1000,
        p99=percentile(histogram, 0.99) / 1000,
        p999=percentile(histogram, 0.999) / 1000,
        requests=requests,
        errors=found["errors"],
        unanswered=found["unanswered"],
        memory=memory,
    )


def request_bytes(case: Case) -> bytes:
    """Return the request of a case as it goes over the wire."""
    lines = [f"{case.method} {case.path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in case.headers.items()]
    if case.method == "POST":
        lines.append(f"Content-Length: {len(case.body)}")
    return "\r\n".join([*lines, "", case.body]).encode()


def run(setup: Setup, case: Case, running: Running, rate: float, seconds: float) -> Load:
    """Load a server at a rate, after a warm-up that is not counted; 0 is as fast as it answers."""
    with tempfile.NamedTemporaryFile() as request:
        request.write(request_bytes(case))
        request.flush()
        if case.kind == "chat":
            program = [str(setup.build / "chat_load"), str(running.port), case.path]
        else:
            program = [str(setup.build / "open_load"), str(running.port), request.name]
        before = cpu_seconds(running.pid)
        done = subprocess.run(
            [*program, str(case.connections), f"{rate:.3f}", str(WARM_UP), f"{seconds:g}"],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
    if done.returncode != 0:
        raise ServerFailed(f"{case.key}: {done.stderr.strip()[-200:]}")
    cpu = cpu_seconds(running.pid) - before
    return read(done.stdout, rate, cpu, resident_bytes(running.pid) / 1e6)
