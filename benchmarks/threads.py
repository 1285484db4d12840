#!/usr/bin/env python3
"""Compares one thread, two threads and two processes of TurboAPI under pipelined load.

    python benchmarks/threads.py --python .venv-ft/bin/python

Meant for a free-threaded interpreter.  The three servers run side by side, and each round loads one
after the other for a moment, so that whatever else the machine does meets all of them.  Server and
wrk share the CPUs.  See README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import install, measure
from harness.cases import BY_KEY as CASES
from harness.measure import Running
from harness.report import markdown_table
from harness.servers import BY_KEY as SERVERS
from harness.servers import DEFAULT_PYTHON, HERE, Setup

ARGUMENTS = {
    "one thread": ["--threads", "1"],
    "two threads": ["--threads", "2"],
    "two processes": ["--workers", "2"],
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", default="sync,async,path,post", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--duration", type=float, default=1.0, help="of a load, in seconds")
    parser.add_argument("--pipeline", type=int, default=16, help="requests at once (%(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="(%(default)s)")
    parser.add_argument("--python", default=DEFAULT_PYTHON, help="interpreter that has turboapi")
    return parser.parse_args()


def table(runs: dict[tuple[str, str], list[measure.Result]], cases: list[str]) -> list[str]:
    """Return the table: costs and rates are medians, ratios those of the rounds."""

    def median(key: str, case: str, what: str) -> float:
        return statistics.median(getattr(each, what) for each in runs[key, case])

    def ratio(one: tuple[str, str], other: tuple[str, str], what: str) -> float:
        pairs = zip(runs[one], runs[other], strict=True)
        return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)

    head = ["case", *(f"{key}, us" for key in ARGUMENTS), "CPU, 2 threads : 1"]
    head += ["CPU, 2 processes : 1"]  # what the machine itself takes for a second CPU at work
    head += ["rate, 2 threads : 2 processes", "CPU : sync, 1 thread", "CPU : sync, 2 threads"]
    rows = []
    for case in cases:
        row = [CASES[case].title, *(f"{median(key, case, 'cpu_us'):.2f}" for key in ARGUMENTS)]
        for two in ("two threads", "two processes"):
            row.append(f"{ratio((two, case), ('one thread', case), 'cpu_us'):.2f}")
        row.append(f"{ratio(('two threads', case), ('two processes', case), 'rps'):.2f}")
        for key in ("one thread", "two threads"):
            known = (key, "sync") in runs
            row.append(f"{ratio((key, case), (key, 'sync'), 'cpu_us'):.2f}" if known else "")
        rows.append(row)
    return markdown_table(head, rows)


def main() -> int:
    """Start the servers, load them in turn, print the table."""
    args = parse()
    measure.raise_limits()
    wrk = install.find_wrk()
    cases = [key.strip() for key in args.cases.split(",")]
    for key in cases:
        if key not in CASES or CASES[key].variant != "plain" or CASES[key].kind != "http":
            sys.exit(f"threads: no such case, or none that can be pipelined: {key}")
    runs: dict[tuple[str, str], list[measure.Result]] = {}
    with contextlib.ExitStack() as stack:
        servers: dict[str, tuple[Setup, Running]] = {}
        for key, arguments in ARGUMENTS.items():
            setup = Setup(args.python, HERE / ".peers", HERE / "results" / "build", arguments)
            running = measure.serve(SERVERS["turboapi"], setup, "plain", os.sched_getaffinity(0))
            servers[key] = (setup, stack.enter_context(running))
        for number in range(args.rounds):
            for case in cases:
                load = dataclasses.replace(
                    CASES[case], connections=args.connections, pipeline=args.pipeline
                )
                for key, (setup, running) in servers.items():
                    found = measure.measure(
                        SERVERS["turboapi"], load, running, setup, wrk, args.duration
                    )
                    runs.setdefault((key, case), []).append(found)
                    print(
                        f"{number + 1:2d} {load.title:18s} {key:14s} {found.cpu_us:7.2f} us"
                        f" {found.rps:9.0f} req/s" + f" {found.errors} ERRORS" * bool(found.errors),
                        file=sys.stderr,
                    )
    print("\n".join(table(runs, cases)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
