#!/usr/bin/env python3
"""Is a response lost or corrupted while everything changes that may change at run time?

    scripts/endurance.py                      # 2 minutes
    scripts/endurance.py --minutes 20 --json figures.json

`turboapi run --workers 3` serves TLS, with HTTP/1.1 and HTTP/2, at full load. Meanwhile its
certificate is exchanged (5 times a minute), workers are killed at random (every 4 to 12 seconds),
and in the second half it is reloaded by SIGHUP (once a minute of the whole) and replaced by SIGUSR2
(once in four minutes).

Clients check every byte. A request may fail only if its connection was a killed process's, which is
looked up before it is killed. What a GOAWAY or REFUSED_STREAM says was not processed is asked
again; so is what finds an idle connection of HTTP/1.1 closed, if workers were being replaced. That
none of those was processed and its answer lost is seen in each worker that ends in order: it must
have served as many requests as it answered. In the first half one worker is spared, and its memory
may grow by --limit MiB after a fifth of that time. The exit code is 1 when something was lost,
corrupted, or grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKERS = 3
LARGE = 200_000
BODY = 20_000
PATIENCE = 120.0  # seconds that one answer may take on a loaded machine

APPLICATION = """
import contextlib
import itertools
import os
import pathlib
import zlib

from turboapi import FastAPI, Request, Response

PID = str(os.getpid())
served = itertools.count()


@contextlib.asynccontextmanager
async def lifespan(app):
    pathlib.Path("ready", PID).touch()
    yield
    pathlib.Path("ended", PID).write_text(str(next(served)))


app = FastAPI(lifespan=lifespan)


@app.get("/small/{number}")
async def small(number: int):
    next(served)
    return Response(f"{number} small", headers={"x-pid": PID})


@app.get("/thread/{number}")
def thread(number: int):
    next(served)
    return Response(f"{number} thread", headers={"x-pid": PID})


@app.get("/large/{number}")
async def large(number: int):
    next(served)
    return Response((b"%08d" % number) * (LARGE // 8), headers={"x-pid": PID})


@app.post("/body/{number}")
async def body(number: int, request: Request):
    crc = zlib.crc32(await request.body())
    next(served)
    return Response(f"{number} {crc}", headers={"x-pid": PID})
""".replace("LARGE", str(LARGE))


def question(number: int) -> tuple[str, str, bytes, bytes]:
    """Return a request's method, path and body, and the body of its answer."""
    match number % 20:
        case 0:
            return "GET", f"/large/{number}", b"", (b"%08d" % number) * (LARGE // 8)
        case 1 | 2:
            body = (b"%08d" % number) * (BODY // 8)
            return "POST", f"/body/{number}", body, f"{number} {zlib.crc32(body)}".encode()
        case 3 | 4:
            return "GET", f"/thread/{number}", b"", f"{number} thread".encode()
        case _:
            return "GET", f"/small/{number}", b"", f"{number} small".encode()


# -- clients: a process of them, which prints what it saw as JSON ----------------------------------


class CutError(Exception):
    """The connection ended where an answer was due."""


@dataclass
class Link:
    """A connection."""

    port: int = 0  # the client's
    since: float = field(default_factory=time.time)
    what: str = "to connect"
    reader: Any = None
    writer: Any = None

    async def open(self, port: int, context: ssl.SSLContext, seen: Seen) -> None:
        """Connect; the handshake is done then."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            self.port = sock.getsockname()[1]
            self.what = "handshake"
            self.reader, self.writer = await asyncio.open_connection(
                sock=sock,
                ssl=context,
                server_hostname="localhost",
                ssl_handshake_timeout=PATIENCE,
            )
        except BaseException:
            sock.close()
            raise
        self.what = "first request"
        seen.serials.add(self.writer.get_extra_info("peercert")["serialNumber"])

    async def close(self) -> None:
        """Close it, in order if that can be."""
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            await asyncio.wait_for(self.writer.wait_closed(), PATIENCE)


@dataclass
class Seen:
    """What the clients of a process saw."""

    answered: Counter[str] = field(default_factory=Counter)
    answered_by: Counter[str] = field(default_factory=Counter)  # process
    again: int = 0  # requests of which the server said that it did not process them
    corrupted: list[str] = field(default_factory=list)
    # Each: the client's port, when it connected and when it saw the end, what.
    failures: list[tuple[int, float, float, str]] = field(default_factory=list)
    closed: list[tuple[int, float, float, str]] = field(default_factory=list)  # while idle
    serials: set[str] = field(default_factory=set)  # of certificates
    slowest: float = 0.0
    number: int = 0

    def next(self) -> int:
        """Return the number of a new request."""
        self.number += 1
        return self.number

    def fail(self, link: Link, error: BaseException) -> None:
        """Note a request that was not answered."""
        self.failures.append((link.port, link.since, time.time(), f"{link.what}: {error!r}"))

    def answer(
        self, kind: str, number: int, status: bytes, body: bytes, begun: float, pid: str
    ) -> None:
        """Note and check an answer."""
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.answered[kind] += 1
        self.answered_by[pid] += 1
        if status != b"200" or body != question(number)[3]:
            self.corrupted.append(f"{kind} {number}: {status!r} {len(body)} {body[:60]!r}")


async def http1(port: int, authority: str, seen: Seen, end: float) -> None:
    """One client of HTTP/1.1: new connections, on each up to 50 requests."""
    context = ssl.create_default_context(cafile=authority)
    again: list[int] = []
    while time.monotonic() < end or again:
        link = Link()
        try:
            await link.open(port, context, seen)
        except OSError as error:
            seen.fail(link, error)
            await asyncio.sleep(0.05)
            continue
        try:
            await http1_requests(link, seen, end, again)
        except (OSError, EOFError, TimeoutError, ssl.SSLError) as error:
            seen.fail(link, error)
        finally:
            await link.close()


async def http1_requests(link: Link, seen: Seen, end: float, again: list[int]) -> None:
    """Ask on one connection; into `again` goes what finds it closed."""
    for _ in range(random.randint(1, 50)):
        number, begun = again.pop() if again else seen.next(), time.monotonic()
        method, path, body, _ = question(number)
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
        head += f"content-length: {len(body)}\r\n\r\n" if body else "\r\n"
        link.writer.write(head.encode() + body)
        async with asyncio.timeout(PATIENCE):
            try:
                lines = (await link.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            except (OSError, EOFError, ssl.SSLError) as error:
                partial = getattr(error, "partial", b"")
                if link.what != "next request" or partial:
                    raise
                # The server had closed it: clients ask again (RFC 9112 9.3.1).
                seen.closed.append((link.port, link.since, time.time(), repr(error)))
                again.append(number)
                return
            link.what = "answer"
            fields = dict(line.split(b": ", 1) for line in lines[1:-2])
            answer = await link.reader.readexactly(int(fields[b"content-length"]))
        link.what = "next request"
        pid = fields.get(b"x-pid", b"").decode()
        seen.answer("h1", number, lines[0].split()[1], answer, begun, pid)
        if fields.get(b"connection") == b"close" or (time.monotonic() > end and not again):
            return


class Http2:
    """One connection of HTTP/2 with up to 20 requests at a time."""

    def __init__(self, seen: Seen, link: Link, first: list[int]) -> None:
        import h2.config  # lazy: for the processes of clients
        import h2.connection  # lazy: as above

        self.seen, self.link = seen, link
        self.state = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self.state.initiate_connection()
        self.state.increment_flow_control_window(2**30)
        self.open: dict[int, list[Any]] = {}  # stream: number, status, body, begun, process
        self.again = first  # requests that were not processed
        self.left = random.randint(20, 500)
        self.going = False

    def ask(self) -> None:
        """Send more requests."""
        while self.left > 0 and len(self.open) < 20 and not self.going:
            self.left -= 1
            number = self.again.pop() if self.again else self.seen.next()
            method, path, body, _ = question(number)
            stream = self.state.get_next_available_stream_id()
            fields = [(":method", method), (":scheme", "https"), (":authority", "localhost")]
            if body and self.state.outbound_flow_control_window < BODY:  # it opens soon
                self.again.append(number)
                self.left += 1
                return
            self.state.send_headers(stream, [*fields, (":path", path)], end_stream=not body)
            self.open[stream] = [number, b"", b"", time.monotonic(), ""]
            while body:
                self.state.send_data(stream, body[:16384], end_stream=len(body) <= 16384)
                body = body[16384:]

    async def run(self, end: float) -> None:
        """Ask until the connection is used up; raises where answers are missing."""
        while True:
            if time.monotonic() > end:
                self.left = len(self.again)
            self.ask()
            self.link.writer.write(self.state.data_to_send())
            if not self.open and (self.going or self.left <= 0):
                return
            async with asyncio.timeout(PATIENCE):
                data = await self.link.reader.read(65536)
            if not data:
                raise CutError(f"{len(self.open)} answers missing")
            self.take(data)

    def take(self, data: bytes) -> None:
        """Note what has come."""
        import h2.errors  # lazy: for the processes of clients
        import h2.events  # lazy: as above

        # Its own opinion is that nothing may follow a GOAWAY; what is open ends in order.
        for event in self.state.receive_data(data):
            one = self.open.get(getattr(event, "stream_id", 0) or 0)
            match event:
                case h2.events.ResponseReceived() if one:
                    fields = dict(event.headers)
                    one[1], one[4] = fields[b":status"], fields.get(b"x-pid", b"").decode()
                    self.link.what = "later request"
                case h2.events.DataReceived() if one:
                    one[2] += event.data
                    self.state.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
                case h2.events.StreamEnded() if one:
                    del self.open[event.stream_id]
                    self.seen.answer("h2", *one)
                case h2.events.StreamReset() if one:
                    del self.open[event.stream_id]
                    if event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM:
                        self.refused(one[0])
                    else:
                        self.seen.corrupted.append(f"h2 {one[0]}: reset {event.error_code!r}")
                case h2.events.ConnectionTerminated():
                    self.going = True
                    if event.error_code:
                        raise CutError(f"GOAWAY {event.error_code!r}")
                    last = event.last_stream_id or 0
                    for stream in [each for each in self.open if each > last]:
                        self.refused(self.open.pop(stream)[0])

    def refused(self, number: int) -> None:
        """Ask again, on another connection."""
        self.seen.again += 1
        self.again.append(number)


def tolerate_goaway() -> None:
    """Let streams that are open end in order after a GOAWAY, which hyper-h2 would not."""
    import h2.connection  # lazy: for the processes of clients

    states, inputs = h2.connection.ConnectionState, h2.connection.ConnectionInputs
    machine = h2.connection.H2ConnectionStateMachine
    goaway = (states.CLIENT_OPEN, inputs.RECV_GOAWAY)
    machine._transitions = {**machine._transitions, goaway: (None, states.CLIENT_OPEN)}


async def http2(port: int, authority: str, seen: Seen, end: float) -> None:
    """One client of HTTP/2: new connections one after the other."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["h2"])
    again: list[int] = []
    while time.monotonic() < end or again:
        link = Link()
        try:
            await link.open(port, context, seen)
        except OSError as error:
            seen.fail(link, error)
            await asyncio.sleep(0.05)
            continue
        client = Http2(seen, link, again)
        try:
            await client.run(end)
        except (OSError, CutError, TimeoutError, ssl.SSLError) as error:
            for _ in client.open:
                seen.fail(link, error)
        finally:
            await link.close()


async def clients(port: int, authority: str, seconds: float) -> None:
    """Be clients of both kinds for a time, and print what they saw."""
    tolerate_goaway()
    seen, end = Seen(), time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(http1(port, authority, seen, end))
        for _ in range(3):
            group.create_task(http2(port, authority, seen, end))
    found = {name: value for name, value in vars(seen).items() if name != "serials"}
    print(json.dumps({**found, "serials": sorted(seen.serials)}))


# -- the server, and what is done to it ------------------------------------------------------------


class Certificates:
    """Certificates of one authority, with their keys, that take each other's place in a file."""

    def __init__(self, folder: Path) -> None:
        import trustme

        self.folder = folder
        self.file = folder / "certificate.pem"
        self.authority = folder / "authority.pem"
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(str(self.authority))
        self.made = 0
        self.renew()

    def renew(self) -> None:
        """Put a new one in the place of the last."""
        certificate = self._ca.issue_cert("localhost", "127.0.0.1")
        new = self.folder / "new.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(str(new))
        new.replace(self.file)
        self.made += 1


class Server:
    """The server's processes; the supervisor changes with SIGUSR2."""

    def __init__(self, folder: Path, certificates: Certificates, port: int) -> None:
        (folder / "endurance_app.py").write_text(APPLICATION)
        (folder / "ready").mkdir()
        (folder / "ended").mkdir()
        self.folder = folder
        self.port = port
        command = [sys.executable, "-m", "turboapi", "run", "endurance_app:app", "--app-dir", "."]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS)]
        command += ["--no-access-log", "--pid-file", "pid"]
        command += ["--ssl-certfile", str(certificates.file)]
        with (folder / "log.txt").open("wb") as log:
            self._first = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def log(self) -> str:
        """What the server has said."""
        return (self.folder / "log.txt").read_text(errors="replace")

    def supervisor(self) -> int:
        """Return the process that signals go to, or 0."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "pid").read_text())
        return 0

    def workers(self) -> list[int]:
        """Return the supervisor's workers that serve, the oldest first."""
        found: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                pid, fields = stat.parent.name, stat.read_text().rpartition(")")[2].split()
                ready = (self.folder / "ready" / pid).exists()
                if ready and int(fields[1]) == self.supervisor() and fields[0] != "Z":
                    found[int(pid)] = int(fields[19])
        return sorted(found, key=lambda pid: found[pid])

    def await_ready(self) -> None:
        """Return when it listens."""
        until = time.monotonic() + PATIENCE
        while len(self.workers()) < WORKERS or not self._accepts():
            if self._first.poll() is not None or time.monotonic() > until:
                sys.exit(f"the server did not start:\n{self.log}")
            time.sleep(0.1)

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
            return True
        return False

    def kill(self, pid: int) -> set[int]:
        """Kill a worker; return the ports of clients whose connections it had, by then."""
        os.kill(pid, signal.SIGSTOP)
        sockets = set()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
        ports = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in sockets and int(fields[1].split(":")[1], 16) == self.port:
                ports.add(int(fields[2].split(":")[1], 16))
        os.kill(pid, signal.SIGKILL)
        return ports

    def served(self) -> dict[str, int]:
        """Return how many requests each worker served that has ended in order."""
        return {each.name: int(each.read_text()) for each in (self.folder / "ended").iterdir()}

    def reap(self) -> None:
        """Note the end of the process that was started first."""
        self._first.poll()

    def stop(self) -> bool:
        """End it in order; return whether it did."""
        pid = self.supervisor() or self._first.pid  # 0 would be all of this group
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self.reap()
            if not Path(f"/proc/{pid}").exists():
                return True
            time.sleep(0.1)
        return False


def resident(pid: int) -> float:
    """Return a process's memory in MiB; 0: it is gone."""
    with contextlib.suppress(OSError, IndexError):
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


@dataclass
class Done:
    """What was done to the server."""

    killed: list[tuple[float, set[int]]] = field(default_factory=list)  # with clients' ports
    hups: int = 0
    upgrades: int = 0
    first: float = float("inf")  # when workers were replaced for the first time
    memory: list[tuple[float, float]] = field(default_factory=list)  # of the worker that is spared


class Plan:
    """When what is to be done next, in seconds from the beginning."""

    def __init__(self, seconds: float, hups: int | None, upgrades: int | None) -> None:
        def spread(begin: float, count: int) -> list[float]:
            step = (seconds - 10 - begin) / count
            return [begin + step * (at + 0.5) for at in range(count)]

        minutes = seconds / 60
        half = seconds / 2
        self.renewals = spread(5, max(2, round(5 * minutes)))
        self.hups = spread(half, hups or max(2, round(minutes)))
        self.upgrades = spread(half, upgrades or max(1, round(minutes / 4)))
        self.half = half
        self.kill = 5.0
        self.last_kill = seconds - 10

    def renew(self, now: float, certificates: Certificates) -> None:
        """Renew the certificate if it is time to."""
        if self.renewals and now > self.renewals[0]:
            self.renewals.pop(0)
            certificates.renew()


def torment(
    server: Server, certificates: Certificates, plan: Plan, seconds: float, done: Done
) -> None:
    """Do to the server what the plan says, until the clients are done."""
    begun = time.monotonic()
    spared = server.workers()[0]
    while (now := time.monotonic() - begun) < seconds:
        plan.renew(now, certificates)
        if now < plan.half:
            if (size := resident(spared)) > 0:
                done.memory.append((now, size))
        elif plan.hups and now > plan.hups[0]:
            plan.hups.pop(0)
            done.first = min(done.first, time.time())
            with contextlib.suppress(OSError):
                if supervisor := server.supervisor():
                    os.kill(supervisor, signal.SIGHUP)
                    done.hups += 1
        elif plan.upgrades and now > plan.upgrades[0]:
            # Not while it is busy with another one: it is asked for until it is done.
            old = server.supervisor()
            done.first = min(done.first, time.time())
            with contextlib.suppress(OSError):
                if old:
                    os.kill(old, signal.SIGUSR2)
            until = time.monotonic() + 60
            while server.supervisor() in (0, old) and time.monotonic() < until:
                server.reap()
                plan.renew(time.monotonic() - begun, certificates)
                time.sleep(0.2)
            if server.supervisor() not in (0, old):
                plan.upgrades.pop(0)
                done.upgrades += 1
        if plan.kill < now < plan.last_kill:
            plan.kill = now + random.uniform(4, 12)
            serving = server.workers()
            victims = [pid for pid in serving if now > plan.half or pid != spared]
            if len(serving) > 1:  # that all are dead proves nothing
                with contextlib.suppress(OSError):
                    done.killed.append((time.time(), server.kill(random.choice(victims))))
        server.reap()
        time.sleep(0.5)


def report(
    found: list[dict[str, Any]],
    done: Done,
    served: dict[str, int],
    made: int,
    limit: float,
) -> dict[str, Any]:
    """Return the figures; "wrong" is what must not be."""

    def killed(port: int, since: float, at: float) -> bool:
        return any(port in ports and since <= when <= at for when, ports in done.killed)

    lost: list[str] = []
    cut: Counter[str] = Counter()
    idle = 0
    for seen in found:
        for port, since, at, what in seen["failures"]:
            if killed(port, since, at):
                cut[re.sub(r"\d+ ", "", what)[:60]] += 1
            else:
                lost.append(f"{what}, {at - since:.1f} s after it was connected")
        for port, since, at, what in seen["closed"]:
            if killed(port, since, at):
                cut[re.sub(r"\d+ ", "", what)[:60]] += 1
            elif at > done.first:
                idle += 1
            else:
                lost.append(f"closed while idle: {what}")
    answers: Counter[str] = Counter()
    for seen in found:
        answers.update(seen["answered_by"])
    for pid, count in served.items():
        if answers[pid] != count:
            lost.append(f"process {pid} served {count} requests and answered {answers[pid]}")
    answered: Counter[str] = Counter()
    for seen in found:
        answered.update(seen["answered"])
    serials = {serial for seen in found for serial in seen["serials"]}
    warm = [size for at, size in done.memory if at > done.memory[-1][0] / 5]
    tenth = max(1, len(warm) // 10)
    first, last = sorted(warm[:tenth])[tenth // 2], sorted(warm[-tenth:])[tenth // 2]
    corrupted = [line for seen in found for line in seen["corrupted"]]
    wrong = [f"lost: {each}" for each in lost] + [f"corrupted: {each}" for each in corrupted]
    if last - first > limit:
        wrong.append(f"memory: {first:.1f} to {last:.1f} MiB")
    if len(serials) < made * 0.9 - 2:  # some are followed too soon by another, or by the end
        wrong.append(f"certificates: {len(serials)} of {made} were seen")
    return {
        "answered": dict(answered),
        "asked again": sum(seen["again"] for seen in found),
        "found closed, asked again": idle,
        "cut with a killed worker": dict(cut),
        "workers killed": len(done.killed),
        "workers ended in order": len(served),
        "SIGHUP": done.hups,
        "SIGUSR2": done.upgrades,
        "certificates made": made,
        "certificates seen": len(serials),
        "MiB of a worker": {"first": round(first, 1), "last": round(last, 1)},
        "slowest answer, s": round(max(seen["slowest"] for seen in found), 2),
        "wrong": wrong,
    }


def main() -> int:
    """Return 0 if nothing was lost, corrupted, or grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--limit", type=float, default=8.0, help="MiB that a worker may grow by")
    parser.add_argument("--processes", type=int, default=2, help="of clients")
    parser.add_argument("--hups", type=int, help="SIGHUPs, in the second half")
    parser.add_argument("--upgrades", type=int, help="SIGUSR2s, in the second half")
    parser.add_argument("--seed", type=int, default=None, help="of what is killed when")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--log", type=Path, help="keep the server's log there")
    parser.add_argument("--client", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        port, authority, seconds = arguments.client
        asyncio.run(clients(int(port), authority, float(seconds)))
        return 0
    random.seed(arguments.seed)
    seconds = arguments.minutes * 60
    if seconds < 60:
        parser.error("--minutes: at least 1")
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as probe:
        folder = Path(name)
        port = probe.getsockname()[1]
        probe.close()
        certificates, done = Certificates(folder), Done()
        server = Server(folder, certificates, port)
        try:
            server.await_ready()
            command = [sys.executable, __file__, "--client", str(port), str(certificates.authority)]
            asking = [
                subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE)
                for _ in range(arguments.processes)
            ]
            plan = Plan(seconds, arguments.hups, arguments.upgrades)
            torment(server, certificates, plan, seconds, done)
            said = [each.communicate(timeout=PATIENCE * 3)[0] for each in asking]
        finally:
            ended = server.stop()
            if arguments.log:
                arguments.log.write_text(server.log)
        figures = report(
            [json.loads(text) for text in said],
            done,
            server.served(),
            certificates.made,
            arguments.limit,
        )
        if not ended:
            figures["wrong"].append("the server did not end")
        # What Python or C would say of an error of their own.
        for line in re.findall(r"(?m)^(?:Traceback|ERROR|Fatal|.*Exception ignored).*", server.log):
            # A new program may be too slow on a loaded machine: it is asked for again.
            if "ended by SIGKILL" not in line and "did not come to serve" not in line:
                figures["wrong"].append(f"log: {line}")
    for what, value in figures.items():
        if what != "wrong":
            print(f"{what:<26}{value}")
    for line in figures["wrong"][:40]:
        print(f"WRONG: {line}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if figures["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
