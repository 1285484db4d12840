#!/usr/bin/env python3
"""How does a client fare that behaves well, while others flood the server or are slow?

    scripts/floods.py                               # every kind, three rounds of 3 seconds
    scripts/floods.py --kinds ping,slow-headers --seconds 2
    scripts/floods.py --kinds streams --server "--gc-threshold 50000"
    scripts/floods.py --list

The server is `turboapi run` with its usual settings (and --server) in a process of its own. A
client sends a request every few milliseconds, in turn over HTTP/1.1 and HTTP/2, and notes how long
the answers take: alone, then while another process (of the lowest priority, as it would have a
machine of its own) does what the kind says, --rounds times in turn; the medians count. The exit
code is 1 when the 99th percentile with the flood is more than --factor times that without (or
--floor, if that is more), the server's memory grew by more than --limit MiB, or the client got a
wrong answer or none. Times mean something on a machine that does nothing else; with --work it is
not they that count, but how much processor time the server spends between a request and its answer,
which hardly depends on what else runs. What it spends until the client looks counts, too, so the
client measures at real-time priority where it may (Linux: as root), to look at once.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

APPLICATION = """
import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect
from turboapi import FastAPI, Request, Response

app = FastAPI()
LARGE = bytes(1 << 20)


@app.get("/")
async def index():
    return "hello"


@app.post("/")
async def read(request: Request):
    return len(await request.body())


@app.post("/hold")
async def hold(request: Request):
    with suppress(ClientDisconnect):
        await request.body()


@app.post("/wait")
async def wait(request: Request):
    await asyncio.sleep(3600)


@app.get("/large")
async def large():
    return Response(LARGE)
"""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 2, 3, 4, 6, 8, 9,
)  # fmt: skip
END_STREAM, END_HEADERS, ACK = 1, 4, 1
STREAMS = range(1, 2**31, 2)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def block(method: bytes, path: bytes, more: bytes = b"") -> bytes:
    """A header block that needs no dynamic table."""
    literal = b"\x04" + bytes([len(path)]) + path
    return (b"\x82" if method == b"GET" else b"\x83") + b"\x86\x01\x01a" + literal + more


def get(stream: int, path: bytes = b"/") -> bytes:
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block(b"GET", path))


def post(stream: int, path: bytes = b"/hold", more: bytes = b"") -> bytes:
    """Waits for a body that does not come; it ends with its connection, as would not `/wait`."""
    return frame(HEADERS, END_HEADERS, stream, block(b"POST", path, more))


# -- floods: what one connection sends, piece by piece ---------------------------------------------

Pieces = Iterator[bytes]


def begin(*settings: tuple[int, int]) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings)
    return PREFACE + frame(SETTINGS, 0, 0, payload)


def again(piece: bytes, first: bytes = b"") -> Callable[[], Pieces]:
    """The same a hundred times a piece, behind a stream that stays open."""

    def pieces() -> Pieces:
        yield begin() + post(1) + first
        while True:
            yield piece * 100

    return pieces


def streams() -> Pieces:
    """Streams beyond what may be open at once."""
    yield begin()
    for number in STREAMS:
        yield post(number)


def header_list() -> Pieces:
    """Header lists larger than what the server takes."""
    field = b"\x00\x01x\x7f\xc1\x1e" + b"v" * 4032  # never indexed: 127 + 3905 bytes
    yield begin()
    for number in STREAMS:
        payload = block(b"GET", b"/") + field * 20
        yield frame(HEADERS, END_STREAM, number, payload[:16000])
        for at in range(16000, len(payload), 16000):
            last = END_HEADERS if at + 16000 >= len(payload) else 0
            yield frame(CONTINUATION, last, number, payload[at : at + 16000])


def rapid_reset() -> Pieces:
    """CVE-2023-44487."""
    yield begin()
    for number in STREAMS:
        yield get(number, b"/large") + frame(RST_STREAM, 0, number, (8).to_bytes(4, "big"))


def made_you_reset() -> Pieces:
    """CVE-2025-8671: frames for which the server has to reset the stream."""
    yield begin()
    for number in STREAMS:
        yield post(number) + frame(WINDOW_UPDATE, 0, number, bytes(4))


def continuation() -> Pieces:
    """CVE-2024-28182: a header block without an end."""
    yield begin() + frame(HEADERS, END_STREAM, 1, block(b"GET", b"/"))
    while True:
        yield frame(CONTINUATION, 0, 1, b"\x00\x01x\x01v") * 10


def hpack_bomb() -> Pieces:
    """A large field in the table, and a byte for each time that it is meant."""
    yield begin()
    for number in STREAMS:
        large = b"\x40\x01x\x7f\x81\x1e" + b"v" * 3968  # 127 + 3841 bytes
        yield frame(HEADERS, END_STREAM | END_HEADERS, number, block(b"GET", b"/", large))
        yield frame(
            HEADERS, END_STREAM | END_HEADERS, number + 2, block(b"GET", b"/") + b"\xbe" * 9000
        )
        return


def unread() -> Pieces:
    """Large responses that nobody reads: neither from the streams nor from the socket."""
    yield begin((4, 2**31 - 1)) + frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
    for number in STREAMS[:100]:
        yield get(number, b"/large")
    while True:
        yield b""


def unopened() -> Pieces:
    """Large responses whose windows are never opened."""
    yield begin((4, 0))
    for number in STREAMS[:100]:
        yield get(number, b"/large")
    while True:
        yield b""


def unread_bodies() -> Pieces:
    """Bodies that the application does not read, as far as the windows go."""
    yield begin()
    for number in STREAMS[:16]:
        yield post(number, b"/wait") + frame(DATA, 0, number, bytes(16384)) * 3
    while True:
        yield b""


def pipelining() -> Pieces:
    """Requests without waiting for responses (HTTP/1.1), which are read."""
    while True:
        yield b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 100


def slow_headers() -> Pieces:
    """A request line, and then a field now and then (Slowloris)."""
    yield b"GET / HTTP/1.1\r\nhost: a\r\n"
    while True:
        yield b"x: a\r\n"


def slow_body() -> Pieces:
    yield b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n"
    while True:
        yield b"x"


def slow_reader() -> Pieces:
    """Asks for a megabyte, again and again, and reads nothing."""
    while True:
        yield b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n"


def idle() -> Pieces:
    yield b"G"
    while True:
        yield b""


@dataclass(frozen=True)
class Flood:
    pieces: Callable[[], Pieces]
    connections: int = 4
    pause: float = 0.0  # seconds between two pieces of each connection
    reads: bool = True  # what the server sends


FLOODS = {
    "streams": Flood(streams),
    "header-list": Flood(header_list),
    "rapid-reset": Flood(rapid_reset),
    "made-you-reset": Flood(made_you_reset),
    "continuation": Flood(continuation),
    "ping": Flood(again(frame(PING, 0, 0, bytes(8)))),
    "settings": Flood(again(frame(SETTINGS))),
    "empty-data": Flood(again(frame(DATA, 0, 1))),
    "window-update": Flood(again(frame(WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big")))),
    "priority": Flood(again(frame(PRIORITY, 0, 1, bytes(4) + b"\x09"))),
    "hpack-bomb": Flood(hpack_bomb),
    "unread": Flood(unread, connections=20, pause=0.005, reads=False),
    "unopened": Flood(unopened, connections=20, pause=0.005),
    "unread-bodies": Flood(unread_bodies, connections=20, pause=0.005),
    "pipelining": Flood(pipelining),
    "slow-headers": Flood(slow_headers, connections=300, pause=0.5),
    "slow-body": Flood(slow_body, connections=300, pause=0.5),
    "slow-reader": Flood(slow_reader, connections=50, pause=0.2, reads=False),
    "idle": Flood(idle, connections=500, pause=1.0),
}


class Attacker:
    """One connection of a flood; a new one when the server has ended it."""

    def __init__(self, flood: Flood, port: int) -> None:
        self.flood, self.port = flood, port
        self.sock: socket.socket | None = None
        self.ended = 0
        self.due = 0.0

    def open(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", self.port), 5)
        if not self.flood.reads:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.setblocking(False)
        self.pieces = self.flood.pieces()
        self.left = b""

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
        self.sock = None
        self.ended += 1

    def turn(self, now: float) -> None:
        if now < self.due:
            return
        self.due = now + self.flood.pause
        try:
            if self.sock is None:
                self.open()
            assert self.sock is not None
            if self.flood.reads and self.drain():
                raise ConnectionError
            self.left = self.left or next(self.pieces)
            if self.left:
                self.left = self.left[self.sock.send(self.left) :]
        except BlockingIOError:
            pass
        except StopIteration:
            self.pieces = iter([b""] * 1000)  # waits for its end
        except OSError:
            self.close()

    def drain(self) -> bool:
        """Read what there is; return whether the connection is at its end."""
        assert self.sock is not None
        with suppress(BlockingIOError):
            while True:
                if not self.sock.recv(1 << 16):
                    return True
        return False


def attack(kind: str, port: int) -> None:
    """Flood until stdin ends; then print how many connections the server ended."""
    os.nice(19)
    flood = FLOODS[kind]
    attackers = [Attacker(flood, port) for _ in range(flood.connections)]
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], min(flood.pause, 0.01))[0]:
        now = time.monotonic()
        for attacker in attackers:
            attacker.turn(now)
    print(sum(attacker.ended for attacker in attackers))


# -- the client that behaves well ------------------------------------------------------------------


class Http1:
    REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 30)

    def request(self) -> bool:
        self.sock.sendall(self.REQUEST)
        got = b""
        while not got.endswith(b'"hello"'):
            piece = self.sock.recv(65536)
            if not piece:
                return False
            got += piece
        return got.startswith(b"HTTP/1.1 200 ")


class Http2:
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.sock.sendall(begin())
        self.stream = -1
        self.input = b""

    def request(self) -> bool:
        self.stream += 2
        update = frame(WINDOW_UPDATE, 0, 0, (7).to_bytes(4, "big"))  # as much as it takes
        self.sock.sendall(get(self.stream) + (update if self.stream > 1 else b""))
        data = b""
        while True:
            kind, flags, stream, payload = self.frame()
            if kind == SETTINGS and not flags & ACK:
                self.sock.sendall(frame(SETTINGS, ACK))
            elif kind == DATA and stream == self.stream:
                data += payload
                if flags & END_STREAM:
                    return data == b'"hello"'
            elif kind in (RST_STREAM, 7):
                return False

    def frame(self) -> tuple[int, int, int, bytes]:
        self.fill(9)
        head, length = self.input[:9], int.from_bytes(self.input[:3], "big")
        self.fill(9 + length)
        payload, self.input = self.input[9 : 9 + length], self.input[9 + length :]
        return head[3], head[4], int.from_bytes(head[5:9], "big"), payload

    def fill(self, n: int) -> None:
        while len(self.input) < n:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionError("closed by the server")
            self.input += piece


@dataclass
class Sample:
    p50: float  # ms
    p99: float
    count: int
    wrong: int
    work: float  # p99 of the server's processor time until the answer, ms


def worked(pid: int) -> float:
    """Return the processor time of a process's main thread so far, in seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def first_in_line() -> Iterator[None]:
    """No other process keeps this thread from running, where that may be asked for."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@first_in_line()
def measure(port: int, pid: int, seconds: float, pace: float, watch: Callable[[], None]) -> Sample:
    """Send a request every `pace` seconds."""
    clients: list[Http1 | Http2] = [Http1(port), Http2(port)]
    times: list[float] = []
    work: list[float] = []
    wrong = 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for client in clients:
                before, begun = worked(pid), time.monotonic()
                try:
                    wrong += not client.request()
                except OSError:
                    return Sample(0, 0, len(times), wrong + 1, 0)
                times.append(time.monotonic() - begun)
                work.append(worked(pid) - before)
                time.sleep(max(0.0, pace - times[-1]))
            watch()
    finally:
        for client in clients:
            client.sock.close()
    times.sort()
    work.sort()
    at = [1000 * times[int(len(times) * part)] for part in (0.5, 0.99)]
    return Sample(at[0], at[1], len(times), wrong, 1000 * work[int(len(work) * 0.99)])


# -- runs ------------------------------------------------------------------------------------------


@contextmanager
def server(folder: Path, more: list[str]) -> Iterator[tuple[int, int]]:
    """(port, process id) of a server."""
    (folder / "flooded.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    options = ["--port", str(port), "--no-access-log", "--log-level", "error", *more]
    command = [sys.executable, "-m", "turboapi", "run", "flooded:app", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            for _ in range(600):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if process.poll() is not None:
                    raise SystemExit(f"the server ended: {(folder / 'log').read_text()}")
                time.sleep(0.1)
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


def memory(pid: int) -> float:
    """Resident MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_time(pid: int) -> float:
    """Seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    kind: str
    quiet: Sample
    flooded: Sample
    before: float  # MiB
    peak: float
    cpu: float  # of the server during the flood, per cent of a core
    ended: int

    def problem(self, factor: float, floor: float, limit: float, work: bool) -> str:
        if self.quiet.wrong or self.flooded.wrong:
            return "wrong answers, or none"
        if work and self.flooded.work > factor * max(self.quiet.work, floor):
            return f"more than {factor:g} times as much work"
        if not work and self.flooded.p99 > factor * max(self.quiet.p99, floor):
            return f"p99 more than {factor:g} times as long"
        if self.peak - self.before > limit:
            return f"memory grew by more than {limit:g} MiB"
        return ""


def flooded(
    kind: str, port: int, pid: int, seconds: float, pace: float, watch: Callable[[], None]
) -> tuple[Sample, int]:
    """What the client sees meanwhile, and how many connections of the flood the server ended."""
    command = [sys.executable, __file__, "--attack", kind, "--port", str(port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as flood:
        assert flood.stdin is not None
        assert flood.stdout is not None
        try:
            flood.stdout.readline()
            time.sleep(min(seconds / 4, 1.0))  # until its connections are there
            sample = measure(port, pid, seconds, pace, watch)
            flood.stdin.close()
            return sample, int(flood.stdout.readline() or 0)
        finally:
            flood.kill()


def median(samples: list[Sample]) -> Sample:
    """That with the median p99; wrong answers are those of all."""
    middle = sorted(samples, key=lambda one: one.p99)[len(samples) // 2]
    work = sorted(one.work for one in samples)[len(samples) // 2]
    return replace(middle, wrong=sum(one.wrong for one in samples), work=work)


def run(kind: str, seconds: float, pace: float, rounds: int, more: list[str]) -> Row:
    with tempfile.TemporaryDirectory() as name, server(Path(name), more) as (port, pid):
        measure(port, pid, min(seconds, 1.0), pace, lambda: None)  # warms it up
        before = memory(pid)
        peaks = [before]
        quiet, loud, ended, used, elapsed = [], [], 0, 0.0, 0.0
        for _ in range(rounds):
            quiet.append(measure(port, pid, seconds, pace, lambda: None))
            begun, so_far = time.monotonic(), cpu_time(pid)
            sample, n = flooded(kind, port, pid, seconds, pace, lambda: peaks.append(memory(pid)))
            used, elapsed = used + cpu_time(pid) - so_far, elapsed + time.monotonic() - begun
            loud.append(sample)
            ended += n
        return Row(
            kind, median(quiet), median(loud), before, max(peaks), 100 * used / elapsed, ended
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", default=",".join(FLOODS), help="which, with commas between")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pace", type=float, default=0.004, help="seconds between two requests")
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--floor", type=float, default=1.0, help="ms; less counts as that")
    parser.add_argument("--work", action="store_true", help="let the server's work count")
    parser.add_argument("--server", default="", help="more of the server's options, in one word")
    parser.add_argument("--limit", type=float, default=64.0, help="MiB")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--list", action="store_true", help="name the kinds")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        attack(options.attack, options.port)
        return 0
    if options.list:
        print("\n".join(FLOODS))
        return 0
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(FLOODS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    print(
        "kind            quiet p50/p99 ms  flooded p50/p99 ms  times  work p99 ms   MiB before/peak"
        "  CPU %  ended"
    )
    failed = False
    rows = []
    for kind in kinds:
        row = run(kind, options.seconds, options.pace, options.rounds, options.server.split())
        rows.append(row)
        quiet, loud = row.quiet, row.flooded
        problem = row.problem(options.factor, options.floor, options.limit, options.work)
        failed |= bool(problem)
        print(
            f"{kind:15s} {quiet.p50:7.2f} {quiet.p99:8.2f}  {loud.p50:9.2f} {loud.p99:8.2f}"
            f"  {loud.p99 / max(quiet.p99, 1e-9):5.1f}  {quiet.work:5.2f} {loud.work:5.2f}"
            f"  {row.before:7.1f} {row.peak:7.1f}"
            f"  {row.cpu:5.0f}  {row.ended:5d}  {problem}",
            flush=True,
        )
    if options.json:
        figures = [
            {
                "kind": row.kind,
                "quiet_work_ms": row.quiet.work, "flooded_work_ms": row.flooded.work,
                "quiet_p99_ms": row.quiet.p99, "flooded_p99_ms": row.flooded.p99,
                "mib_before": row.before, "mib_peak": row.peak, "server_cpu_percent": row.cpu,
                "connections_ended": row.ended,
            }
            for row in rows
        ]  # fmt: skip
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
