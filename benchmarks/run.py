#!/usr/bin/env python3
"""Serves the same cases with TurboAPI and its peers, one after the other; reports their cost.

Each server is pinned to one CPU and driven by wrk on another.  See README.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import install, measure, report
from harness.cases import BY_KEY as CASES
from harness.measure import ServerFailed
from harness.servers import BY_KEY as SERVERS
from harness.servers import DEFAULT_PYTHON, HERE, Server, Setup

EXTRAS = ["burst", "idle"]


def keys(text: str, known: list[str], what: str) -> list[str]:
    """Split a list of keys, in the order of `known`."""
    chosen = [key.strip() for key in text.split(",") if key.strip()]
    unknown = [key for key in chosen if key not in known]
    if unknown:
        sys.exit(f"benchmark: no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    return [key for key in known if key in chosen]


def cpu_set(text: str) -> set[int]:
    """Read "0" or "0,2" or "0-3"."""
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    every_case = [*CASES, *EXTRAS]
    parser.add_argument("--cases", default=",".join(every_case), help="default: all of %(default)s")
    parser.add_argument("--servers", default=",".join(SERVERS), help="default: all of %(default)s")
    parser.add_argument("--duration", type=float, default=5.0, help="seconds a case (%(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="runs a case; the median counts")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--python", default=DEFAULT_PYTHON, help="interpreter that has turboapi")
    parser.add_argument("--turboapi-args", default="", help='for example "--threads 2"')
    parser.add_argument("--peers", type=Path, help="venv of the peers (made when missing)")
    parser.add_argument("--server-cpus", default="0")
    parser.add_argument("--client-cpus", default="1")
    parser.add_argument("--no-install", action="store_true", help="use the peers that are there")
    args = parser.parse_args()
    args.cases = keys(args.cases, every_case, "case")
    args.servers = keys(args.servers, list(SERVERS), "server")
    if args.repeat < 1 or args.duration <= 0:
        parser.error("--repeat and --duration must be positive")
    return args


def pick_cpus(args: argparse.Namespace) -> tuple[set[int], set[int]]:
    """Return the CPUs of server and client, as far as there are so many."""
    have = os.sched_getaffinity(0)
    server, client = cpu_set(args.server_cpus) & have, cpu_set(args.client_cpus) & have
    if not server or not client or server & client:
        install.say(f"warning: server and client share CPUs (there are {sorted(have)})")
    return server or have, client or have


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


def cpu_model() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


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

    server_cpus, client_cpus = pick_cpus(args)
    os.sched_setaffinity(0, client_cpus)
    bench = Benchmark(args, setup, wrk, server_cpus)
    bench.failures = failures
    for server in wanted:
        if server.package and server.package not in versions:
            bench.fail(server, f"{server.package} is not installed")
            continue
        bench.run(server)

    python = subprocess.run([args.python, "-VV"], capture_output=True, text=True, check=False)
    data = {
        "meta": {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "cpu": cpu_model(),
            "kernel": platform.release(),
            "python": python.stdout.strip().removeprefix("Python "),
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
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    text = report.markdown(data)
    (args.out / "results.md").write_text(text)
    print("\n" + text)
    if "matplotlib" in versions:
        done = subprocess.run(
            [
                setup.peer_python,
                str(HERE / "harness" / "plot.py"),
                *[str(args.out / f"results.{ending}") for ending in ("json", "svg", "png")],
            ],
            check=False,
        )
        if done.returncode != 0:
            install.say("the plot could not be drawn")
    install.say(f"results are in {args.out}")
    return 0 if bench.results or bench.burst or bench.idle else 1


if __name__ == "__main__":
    sys.exit(main())
