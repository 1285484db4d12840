#!/usr/bin/env python3
"""Serves applications with databases, with TurboAPI and its peers: their cost and their latency.

PostgreSQL and Redis run beside the client on one CPU, the server on another.  See real/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import install, measure, options, services
from harness.measure import Running, ServerFailed
from harness.servers import HERE, Server, Setup
from real import load, report
from real.cases import BY_KEY as CASES
from real.cases import SQL, Case
from real.servers import BY_KEY as SERVERS
from real.servers import PACKAGES

LOOPS = ["turboapi", "uvloop"]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", default=",".join(CASES), help="default: all of %(default)s")
    options.add_common(parser, list(SERVERS))
    parser.add_argument("--duration", type=float, default=2.0, help="seconds a load (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="half a second a load")
    parser.add_argument("--repeat", type=int, default=1, help="rounds a row; medians count")
    parser.add_argument("--no-alone", action="store_true", help="leave the client libraries out")
    args = parser.parse_args()
    args.cases = options.keys(args.cases, list(CASES), "case")
    args.servers = options.keys(args.servers, list(SERVERS), "server")
    if args.quick:
        args.duration = 0.5
    if args.repeat < 1 or args.duration <= 0:
        parser.error("--repeat and --duration must be positive")
    return args


@contextlib.contextmanager
def upstreams(setup: Setup, folder: str) -> Iterator[dict[str, str]]:
    """Run what the applications ask; yield the environment that tells them where it is."""
    values = [("greeting", "hello from redis")]
    port = measure.free_port()
    with (
        services.process(str(setup.build / "limit_epoll"), str(port)),
        services.redis(folder, values) as redis,
        services.postgres(folder, SQL, ["max_connections=200"]) as dsn,
    ):
        yield {
            "BENCH_POSTGRES": dsn,
            "BENCH_SOCKETS": dsn.partition("host=")[2],
            "BENCH_REDIS": redis,
            "BENCH_UPSTREAM": f"http://127.0.0.1:{port}/",
        }


class Benchmark:
    """Runs what was asked for and keeps the results."""

    def __init__(self, args: argparse.Namespace, setup: Setup, cpus: set[int]) -> None:
        self.args = args
        self.setup = setup
        self.cpus = cpus
        self.results: list[dict[str, Any]] = []
        self.alone: dict[str, dict[str, float]] = {}
        self.failures: list[str] = []

    def fail(self, who: str, error: object) -> None:
        """Note a failure; the others go on."""
        self.failures.append(f"{who}: {error}")
        print(f"{who:28s} FAILED {error}", flush=True)

    def run_row(self, case: Case, servers: list[Server]) -> None:
        """Run a case on each server, one round after the other, and keep the medians."""
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(self.args.repeat):
            for server in servers:
                if case.key not in server.cases:
                    continue
                try:
                    with measure.serve(server, self.setup, case.variant, self.cpus) as running:
                        one = self.run_one(case, running)
                except (ServerFailed, OSError, subprocess.TimeoutExpired) as error:
                    self.fail(f"{server.title}, {case.key}", error)
                    continue
                found.setdefault(server.key, []).append(one)
                print(
                    f"{case.key:10s} {server.title:26s} {report.line(one)}",
                    flush=True,
                )
        for key, runs in found.items():
            self.results.append({"server": key, "case": case.key, **median(runs)})

    def run_one(self, case: Case, running: Running) -> dict[str, Any]:
        """Find the peak of a fresh server, then load it at half of that and at nine tenths."""
        if case.kind == "http":
            measure.check_answer(case, running.port)
        rest = measure.resident_bytes(running.pid) / 1e6
        seconds = self.args.duration
        load.run(self.setup, case, running, 0, seconds / 4)  # opens the connections
        peak = load.run(self.setup, case, running, 0, seconds)
        # The rate of a chat is that of its messages, each of which reaches all the members.
        rate = peak.rps / (case.connections if case.kind == "chat" else 1)
        half = load.run(self.setup, case, running, rate * 0.5, seconds)
        most = load.run(self.setup, case, running, rate * 0.9, seconds)
        return {
            "rest": rest,
            "peak": peak.to_dict(),
            "half": half.to_dict(),
            "most": most.to_dict(),
        }

    def run_alone(self, case: Case) -> None:
        """Measure the client library without a server, on our loop and on uvloop."""
        servers = {"turboapi": SERVERS["turboapi"], "uvloop": SERVERS["fastapi-uvicorn"]}
        for loop in LOOPS:
            path = servers[loop].command(self.setup, "plain", 0)[1]
            python = self.setup.python if loop == "turboapi" else self.setup.peer_python
            try:
                done = subprocess.run(
                    [
                        *["env", path, python, str(HERE / "real" / "alone.py"), case.alone],
                        *["--loop", loop, "--seconds", str(self.args.duration)],
                    ],
                    capture_output=True,
                    text=True,
                    timeout=self.args.duration + 60,
                    check=False,
                    env={**os.environ, **servers[loop].env},
                    preexec_fn=lambda: os.sched_setaffinity(0, self.cpus),
                )
            except subprocess.TimeoutExpired as error:
                self.fail(f"{case.alone} alone on {loop}", error)
                continue
            if done.returncode != 0:
                self.fail(f"{case.alone} alone on {loop}", install.last_line(done.stderr))
                continue
            cpu = float(json.loads(done.stdout)["cpu_us"])
            self.alone.setdefault(case.key, {})[loop] = cpu
            print(f"{case.key:10s} {'alone, on ' + loop:26s} {cpu:9.1f} us", flush=True)


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of several runs, number by number."""
    found: dict[str, Any] = {}
    for key, value in runs[0].items():
        values = [run[key] for run in runs]
        found[key] = median(values) if isinstance(value, dict) else statistics.median(values)
    return found


def main() -> int:
    """Set up, run, write the report."""
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with it
    measure.raise_limits()
    build = args.out / "build"
    peers = (args.peers or HERE / ".peers").absolute()
    setup = Setup(args.python, peers, build, args.turboapi_args.split())
    install.compile_programs(build)
    names = [package.partition("[")[0] for package in PACKAGES]
    failures: list[str] = []
    if args.no_install:
        versions = install.versions(setup.peer_python, names)
    else:
        versions, failures = install.install_peers(peers, args.python, PACKAGES)
    versions |= install.versions(args.python, ["turboapi"])

    server_cpus, client_cpus = options.pick_cpus(args)
    os.sched_setaffinity(0, client_cpus)
    bench = Benchmark(args, setup, server_cpus)
    bench.failures = failures
    wanted = [SERVERS[key] for key in args.servers]
    for server in wanted:
        if server.package and server.package not in versions:
            bench.fail(server.title, f"{server.package} is not installed")
    wanted = [server for server in wanted if not server.package or server.package in versions]
    began, busy = time.monotonic(), os.getloadavg()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        upstreams(setup, folder) as environment,
    ):
        os.environ.update(environment)
        try:
            for key in args.cases:
                if not args.no_alone:
                    bench.run_alone(CASES[key])
                bench.run_row(CASES[key], wanted)
        except (KeyboardInterrupt, SystemExit):  # what was measured until then counts
            bench.fail("the rest", "interrupted")

    data = {
        "meta": {
            **options.machine(args),
            "versions": versions,
            "duration": args.duration,
            "repeat": args.repeat,
            "server_cpus": ",".join(map(str, sorted(server_cpus))),
            "client_cpus": ",".join(map(str, sorted(client_cpus))),
            "minutes": (time.monotonic() - began) / 60,
            "load_before": busy[0],
        },
        "results": bench.results,
        "alone": bench.alone,
        "failures": bench.failures,
    }
    text = report.markdown(data)
    options.write(args, setup, "realistic", data, text, HERE / "real" / "plot.py")
    return 0 if bench.results else 1


if __name__ == "__main__":
    sys.exit(main())
