"""What the benchmarks' command lines have in common, and how their results are written."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import install
from harness.servers import DEFAULT_PYTHON, HERE, Setup


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


def pick_cpus(args: argparse.Namespace) -> tuple[set[int], set[int]]:
    """Return the CPUs of server and client, as far as there are so many."""
    have = os.sched_getaffinity(0)
    server, client = cpu_set(args.server_cpus) & have, cpu_set(args.client_cpus) & have
    if not server or not client or server & client:
        install.say(f"warning: server and client share CPUs (there are {sorted(have)})")
    return server or have, client or have


def cpu_model() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def add_common(parser: argparse.ArgumentParser, servers: list[str]) -> None:
    """Add the options that say who is measured, with what, and where the results go."""
    parser.add_argument("--servers", default=",".join(servers), help="default: all of %(default)s")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--python", default=DEFAULT_PYTHON, help="interpreter that has turboapi")
    parser.add_argument("--turboapi-args", default="", help='for example "--threads 2"')
    parser.add_argument("--peers", type=Path, help="venv of the peers (made when missing)")
    parser.add_argument("--server-cpus", default="0")
    parser.add_argument("--client-cpus", default="1", help="those of databases, too")
    parser.add_argument("--no-install", action="store_true", help="use the peers that are there")


def machine(args: argparse.Namespace) -> dict[str, str]:
    """Return when and where the results were measured."""
    python = subprocess.run([args.python, "-VV"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_model(),
        "kernel": platform.release(),
        "python": python.stdout.strip().removeprefix("Python "),
    }


def write(
    args: argparse.Namespace, setup: Setup, name: str, data: dict[str, Any], text: str, plot: Path
) -> None:
    """Write the results as JSON and as tables, print these, and draw the plots.

    Args:
        args: the command line's.
        setup: has the interpreter with matplotlib, if there is one.
        name: of the files, without their endings.
        data: the results, whose `meta` has the `versions` of packages.
        text: the tables.
        plot: the program that draws.
    """
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    (args.out / f"{name}.md").write_text(text)
    print("\n" + text)
    if "matplotlib" in data["meta"]["versions"]:
        outputs = [str(args.out / f"{name}.{ending}") for ending in ("json", "svg", "png")]
        done = subprocess.run([setup.peer_python, str(plot), *outputs], check=False)
        if done.returncode != 0:
            install.say("the plot could not be drawn")
    install.say(f"results are in {args.out}")
