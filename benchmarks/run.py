#!/usr/bin/env python3
"""Serves the same cases with TurboAPI and its peers, one after the other; reports their cost.

Each server is pinned to one CPU and driven by wrk on another.  See README.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import install, measure, options, report
from harness.cases import BY_KEY as CASES
from harness.measure import ServerFailed
from harness.servers import BY_KEY as SERVERS
from harness.servers import HERE, Server, Setup

EXTRAS = ["burst", "idle"]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    every_case = [*CASES, *EXTRAS]
    parser.add_argument("--cases", default=",".join(every_case), help="default: all of %(default)s")
    options.add_common(parser, list(SERVERS))
    parser.add_argument("--duration", type=float, default=5.0, help="seconds a case (%(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="runs a case; the median counts")
    args = parser.parse_args()
    args.cases = options.keys(args.cases, every_case, "case")
    args.servers = options.keys(args.servers, list(SERVERS), "server")
    if args.repeat < 1 or args.duration <= 0:
        parser.error("--repeat and --duration must be positive")
    return args


class Benchmark:
    """Runs what was asked for and keeps the results."""

    def __init__(self, args: argparse.Namespace, setup: Setup, wrk: str, cpus: set[int]) -> None:
        self.args = args
        self.setup = setup
        self.wrk = wrk
        self.cpus = cpus
        self.results: list[dict[str, Any]] = []
        self.burst: dict[str, dict[str, float]] = {}
        self.idle: dict[str, dict[str, float]] = {}
        self.failures: list[str] = []

    def fail(self, server: Server, error: object) -> None:
        """Note a failure; the others go on."""
        self.failures.append(f"{server.title}: {error}")
        print(f"{server.title:22s} FAILED {error}", flush=True)

    def run(self, server: Server) -> None:
        """Run the chosen cases that the server has, a fresh process for each application."""
        chosen = [CASES[key] for key in self.args.cases if key in server.cases]
        for variant in dict.fromkeys(case.variant for case in chosen):
            try:
                with measure.serve(server, self.setup, variant, self.cpus) as running:
                    for case in chosen:
                        if case.variant == variant:
                            self.run_case(server, case, running)
            except (ServerFailed, OSError) as error:
                self.fail(server, error)
        if "async" in server.cases and "sleep64" in server.cases:
            self.run_extras(server)

    def run_case(self, server: Server, case: Any, running: measure.Running) -> None:
        """Run one case as often as asked for; keep the run with the median cost."""
        try:
            runs = [
                measure.measure(server, case, running, self.setup, self.wrk, self.args.duration)
                for _ in range(self.args.repeat)
            ]
        except (ServerFailed, subprocess.TimeoutExpired) as error:
            self.fail(server, error)
            return
        median = statistics.median_low(each.cpu_us for each in runs)
        result = next(each for each in runs if each.cpu_us == median)
        self.results.append(result.to_dict())
        print(
            f"{server.title:22s} {case.title:28s} {result.cpu_us:10.1f} us {result.rps:10.0f} req/s"
            f"  p50 {result.p50_ms:7.2f} p99 {result.p99_ms:7.2f} ms"
            + (f"  {result.errors} ERRORS" if result.errors else ""),
            flush=True,
        )

    def run_extras(self, server: Server) -> None:
        """Measure a burst of sleeping requests, and idle connections."""
        for extra in EXTRAS:
            if extra not in self.args.cases:
                continue
            try:
                with measure.serve(server, self.setup, "plain", self.cpus) as running:
                    if extra == "burst":
                        measure.burst(running.port, 100)  # warms up
                        found = self.burst[server.key] = measure.burst(running.port)
                        text = f"all answered after {found['all_ms']:.1f} ms"
                    else:
                        found = self.idle[server.key] = measure.idle_memory(running)
                        text = f"{found['bytes']:.0f} bytes"
                print(f"{server.title:22s} {extra:28s} {text}", flush=True)
            except (ServerFailed, OSError) as error:
                self.fail(server, f"{extra}: {error}")


def main() -> int:
    """Set up, run, write the report."""
    args = parse()
    measure.raise_limits()
    build = args.out / "build"
    peers = (args.peers or HERE / ".peers").absolute()
    setup = Setup(args.python, peers, build, args.turboapi_args.split())
    wrk = install.find_wrk()
    install.compile_programs(build)
    wanted = [SERVERS[key] for key in args.servers]
    versions, failures = {}, []
    if any(server.package for server in wanted):
        names = ["fastapi", "uvicorn", "granian", "robyn", "blacksheep", "litestar", "falcon"]
        names += ["fastpysgi", "socketify", "peregrine-server", "matplotlib"]
        if args.no_install:
            versions = install.versions(setup.peer_python, names)
        else:
            versions, failures = install.install_peers(peers, args.python)
    versions |= install.versions(args.python, ["turboapi", "pydantic", "pydantic-core"])

    server_cpus, client_cpus = options.pick_cpus(args)
    os.sched_setaffinity(0, client_cpus)
    bench = Benchmark(args, setup, wrk, server_cpus)
    bench.failures = failures
    for server in wanted:
        if server.package and server.package not in versions:
            bench.fail(server, f"{server.package} is not installed")
            continue
        bench.run(server)

    data = {
        "meta": {
            **options.machine(args),
            "versions": versions,
            "duration": args.duration,
            "repeat": args.repeat,
            "server_cpus": ",".join(map(str, sorted(server_cpus))),
            "client_cpus": ",".join(map(str, sorted(client_cpus))),
        },
        "results": bench.results,
        "burst": bench.burst,
        "idle": bench.idle,
        "failures": bench.failures,
    }
    text = report.markdown(data)
    options.write(args, setup, "results", data, text, HERE / "harness" / "plot.py")
    return 0 if bench.results or bench.burst or bench.idle else 1


if __name__ == "__main__":
    sys.exit(main())
