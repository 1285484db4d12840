"""What the counters of all workers say together: for Prometheus, and for the status page.

`Snapshot` is made of what `_core.Stats.read` gives for each slot (src/base/stats.h).
"""

from __future__ import annotations

import dataclasses
import http
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turboapi._core import STATS_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STARTING, READY, DRAINING = 1, 2, 3
_STATES = {STARTING: "starting", READY: "ready", DRAINING: "draining"}

# As in src/base/stats.h, in its order.
_VALUES: tuple[str, ...] = (
    "bytes_in",
    "bytes_out",
    "accepted",
    "log_lines_dropped",
    "unlisted",
    "restarts",
    "started",
    "ended",
    "connections",
    "websockets",
    "pool_jobs",
    "pool_queue",
    "promoted",
)

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SIGNED = 2**63


@dataclasses.dataclass
class Series:
    """Requests of one route and method."""

    route: str
    method: str
    statuses: dict[int, int]
    buckets: list[int]
    seconds: float

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def add(self, statuses: Mapping[int, int], buckets: Iterable[int], seconds: float) -> None:
        """Add the requests of another worker."""
        for status, n in statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + n
        self.buckets = [a + b for a, b in zip(self.buckets, buckets, strict=True)]
        self.seconds += seconds


@dataclasses.dataclass
class Thread:
    """An event loop of a worker."""

    pid: int
    thread: int
    state: int
    since: float
    values: dict[str, int]
    lag: float
    silent: float
    in_flight: list[tuple[float, str | None, str | None]]


class Snapshot:
    """All workers at about one moment."""

    def __init__(self, slots: Iterable[Mapping[str, Any] | None]) -> None:
        """`slots`: the first is of workers that have ended."""
        self.totals = dict.fromkeys(_VALUES, 0)
        self.series: dict[tuple[str, str], Series] = {}
        self.threads: list[Thread] = []
        self.lag = [0] * (len(STATS_BOUNDS) + 1)
        self.lag_seconds = 0.0
        for number, slot in enumerate(slots):
            if slot is not None:
                self._add(slot, living=number > 0)

    def _add(self, slot: Mapping[str, Any], *, living: bool) -> None:
        values = dict(zip(_VALUES, map(_signed, slot["values"]), strict=True))
        for name, n in values.items():
            self.totals[name] += n
        self.lag = [a + b for a, b in zip(self.lag, slot["lag"], strict=True)]
        self.lag_seconds += slot["lag_sum"]
        for route, method, statuses, buckets, ns in slot["series"]:
            one = self.series.get((route, method))
            if one is None:
                one = Series(route, method, {}, [0] * len(buckets), 0.0)
                self.series[route, method] = one
            one.add(statuses, buckets, ns / 1e9)
        if living:
            self.threads.append(
                Thread(
                    slot["pid"],
                    slot["thread"],
                    slot["state"],
                    slot["since"],
                    values,
                    slot["lag_last"],
                    slot["silent"],
                    slot["in_flight"],
                )
            )

    @property
    def in_flight(self) -> int:
        return max(0, self.totals["started"] - self.totals["ended"])

    def is_ready(self) -> bool:
        """Return whether somebody accepts connections."""
        return any(thread.state == READY for thread in self.threads)

    def is_live(self, patience: float) -> bool:
        """Return whether an event loop that should make steps makes some, if there is one."""
        serving = [thread for thread in self.threads if thread.state != STARTING]
        return not patience or not serving or any(each.silent < patience for each in serving)

    def pids(self) -> list[int]:
        """Return the processes that serve."""
        return sorted({thread.pid for thread in self.threads})

    def connections(self) -> dict[tuple[str, str], int]:
        """Return connections by protocol and state."""
        websockets = max(0, self.totals["websockets"])
        others = max(0, self.totals["connections"] - websockets)
        active = min(others, max(0, self.in_flight - websockets))
        return {
            ("http", "active"): active,
            ("http", "idle"): others - active,
            ("websocket", "open"): websockets,
        }


def _signed(n: int) -> int:
    return n - 2 * _SIGNED if n >= _SIGNED else n


def quantile(buckets: list[int], q: float) -> float | None:
    """Return about the duration that a part `q` of the requests did not exceed, in seconds."""
    wanted = q * sum(buckets)
    if not wanted:
        return None
    below, lower = 0, 0.0
    for n, upper in zip(buckets, [*STATS_BOUNDS, STATS_BOUNDS[-1]], strict=True):
        if n and below + n >= wanted:
            return lower + (upper - lower) * (wanted - below) / n
        below, lower = below + n, upper
    return lower


def process_figures(pid: int) -> tuple[float, int] | None:
    """Return seconds of processor time and resident bytes of a process; None: it has ended."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND, int(fields[21]) * _PAGE
    return None


# -- Prometheus -----------------------------------------------------------------------------------


def prometheus(snapshot: Snapshot) -> str:
    """Return the text that Prometheus reads (version 0.0.4)."""
    return "".join(f"{line}\n" for line in _lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[str]:
    totals = snapshot.totals
    series = sorted(snapshot.series.values(), key=lambda one: (one.route, one.method))
    yield from _head("requests_total", "counter", "Requests that have ended.")
    for one in series:
        for status, n in sorted(one.statuses.items()):
            yield _line("requests_total", n, _labels(one) | {"status": str(status or "other")})
    yield from _head(
        "request_duration_seconds",
        "histogram",
        "Seconds from the head of a request to the last byte of its response.",
    )
    for one in series:
        yield from _histogram("request_duration_seconds", one.buckets, one.seconds, _labels(one))
    yield from _one(
        "requests_in_flight", "gauge", "Requests that are being served.", snapshot.in_flight
    )
    yield from _one(
        "requests_unlisted_total",
        "counter",
        "Requests of routes beyond metrics_routes.",
        totals["unlisted"],
    )
    yield from _head("connections", "gauge", "Open connections.")
    for (protocol, state), n in snapshot.connections().items():
        yield _line("connections", n, {"protocol": protocol, "state": state})
    counters = (
        ("connections_accepted_total", "Connections accepted.", "accepted"),
        ("request_body_bytes_total", "Bytes of request bodies.", "bytes_in"),
        ("response_body_bytes_total", "Bytes of response bodies.", "bytes_out"),
        (
            "access_log_lines_dropped_total",
            "Lines dropped because their reader was slow.",
            "log_lines_dropped",
        ),
        ("worker_restarts_total", "Workers that died and were replaced.", "restarts"),
    )
    for name, words, key in counters:
        yield from _one(name, "counter", words, totals[key])
    yield from _one("websockets_open", "gauge", "Open WebSockets.", max(0, totals["websockets"]))
    yield from _head(
        "thread_pool_calls", "gauge", "Calls of def handlers that wait for a thread or run in one."
    )
    queued = totals["pool_queue"]
    yield _line("thread_pool_calls", queued, {"state": "queued"})
    yield _line("thread_pool_calls", max(0, totals["pool_jobs"] - queued), {"state": "running"})
    yield from _one(
        "handlers_promoted",
        "gauge",
        "def functions that run on the event loop.",
        totals["promoted"],
    )
    yield from _head(
        "loop_lag_seconds", "histogram", "Seconds by which timers of the event loops come late."
    )
    yield from _histogram("loop_lag_seconds", snapshot.lag, snapshot.lag_seconds, {})
    yield from _one(
        "loop_silent_seconds",
        "gauge",
        "Seconds since the last step of the event loop that has been silent for longest.",
        max((thread.silent for thread in snapshot.threads), default=0.0),
    )
    yield from _head("threads", "gauge", "Event loops of workers.")
    for number, word in _STATES.items():
        n = sum(thread.state == number for thread in snapshot.threads)
        yield _line("threads", n, {"state": word})
    figures = {pid: found for pid in snapshot.pids() if (found := process_figures(pid))}
    yield from _head(
        "worker_cpu_seconds_total", "counter", "Processor time of a worker, in seconds."
    )
    for pid, (seconds, _) in figures.items():
        yield _line("worker_cpu_seconds_total", seconds, {"pid": str(pid)})
    yield from _head("worker_resident_memory_bytes", "gauge", "Resident memory of a worker.")
    for pid, (_, size) in figures.items():
        yield _line("worker_resident_memory_bytes", size, {"pid": str(pid)})


def _labels(one: Series) -> dict[str, str]:
    return {"route": one.route, "method": one.method}


def _head(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP turboapi_{name} {words}"
    yield f"# TYPE turboapi_{name} {kind}"


def _one(name: str, kind: str, words: str, value: float) -> Iterator[str]:
    yield from _head(name, kind, words)
    yield _line(name, value, {})


def _histogram(
    name: str, buckets: list[int], seconds: float, labels: dict[str, str]
) -> Iterator[str]:
    n = 0
    for bound, count in zip([*STATS_BOUNDS, "+Inf"], buckets, strict=True):
        n += count
        text = bound if isinstance(bound, str) else f"{bound:g}"
        yield _line(f"{name}_bucket", n, {**labels, "le": text})
    yield _line(f"{name}_sum", seconds, labels)
    yield _line(f"{name}_count", n, labels)


def _line(name: str, value: float, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"turboapi_{name}{'{' if inside else ''}{inside}{'}' if inside else ''} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# -- The status page, `turboapi status` -----------------------------------------------------------


def status(snapshot: Snapshot, now: float) -> dict[str, Any]:
    """Return what the page shows, as JSON has it."""
    series = sorted(snapshot.series.values(), key=lambda one: -one.count)
    flying = [
        {"age": age, "route": route, "method": method, "pid": thread.pid}
        for thread in snapshot.threads
        for age, route, method in thread.in_flight
    ]
    flying.sort(key=lambda each: -float(each["age"] or 0))
    return {
        "now": now,
        "ready": snapshot.is_ready(),
        "in_flight": snapshot.in_flight,
        "totals": snapshot.totals,
        "connections": {" ".join(key): n for key, n in snapshot.connections().items()},
        "workers": [_worker(thread, now) for thread in snapshot.threads],
        "routes": [_route(one) for one in series],
        "requests": flying[:100],
    }


def _worker(thread: Thread, now: float) -> dict[str, Any]:
    cpu, memory = process_figures(thread.pid) or (0.0, 0)
    values = thread.values
    return {
        "pid": thread.pid,
        "thread": thread.thread,
        "state": _STATES.get(thread.state, "?"),
        "uptime": max(0.0, now - thread.since),
        "cpu": cpu,
        "memory": memory,
        "requests": values["ended"],
        "in_flight": max(0, values["started"] - values["ended"]),
        "connections": values["connections"],
        "lag": max(thread.lag, thread.silent - 0.5 if thread.silent > 0.5 else 0.0),
        "pool_queue": values["pool_queue"],
    }


def _route(one: Series) -> dict[str, Any]:
    return {
        "route": one.route,
        "method": one.method,
        "count": one.count,
        "errors": sum(n for status, n in one.statuses.items() if status >= http.HTTPStatus(500)),
        "refused": sum(n for status, n in one.statuses.items() if 400 <= status < 500),
        "mean": one.seconds / one.count if one.count else None,
        "p50": quantile(one.buckets, 0.5),
        "p99": quantile(one.buckets, 0.99),
    }
