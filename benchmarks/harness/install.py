"""Sets up what the benchmark needs: the peers' venv, wrk, the compiled programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .servers import HERE, PEERS

VERSIONS = """
import importlib.metadata, json, sys
names = sys.argv[1:]
distributions = {"turboapi": "turboapi-c"}
found = {}
for name in names:
    try:
        found[name] = importlib.metadata.version(distributions.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def say(text: str) -> None:
    """Tell what is going on."""
    print(f"== {text}", file=sys.stderr, flush=True)


def run(command: list[str], timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """Run a command of the set-up; its output is kept."""
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def versions(python: str, names: list[str]) -> dict[str, str]:
    """Return which of the distributions an interpreter has."""
    done = run([python, "-c", VERSIONS, *names])
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def install_peers(
    venv: Path, python: str, peers: Sequence[str] = PEERS
) -> tuple[dict[str, str], list[str]]:
    """Make the venv and install the peers; return the versions and what failed."""
    names = [peer.partition("[")[0] for peer in peers]
    peer_python = str(venv / "bin" / "python")
    if not Path(peer_python).exists():
        say(f"making {venv}")
        done = run([python, "-m", "venv", str(venv)])
        if done.returncode != 0:
            return {}, [f"the peers' venv: {last_line(done.stderr)}"]
    have = versions(peer_python, names)
    failed = []
    if len(have) < len(names):
        say("installing the peers from PyPI")
        pip = [peer_python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = run([*pip, *peers])
        if done.returncode != 0:  # one by one, then: the others are wanted all the same
            for peer, name in zip(peers, names, strict=True):
                if name in have:
                    continue
                done = run([*pip, peer])
                if done.returncode != 0:
                    failed.append(f"{name} does not install: {last_line(done.stderr)}")
        have = versions(peer_python, names)
    return have, failed


def last_line(text: str) -> str:
    """Return the line that says most, usually."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def find_wrk() -> str:
    """Return wrk's path; it is installed by apt-get where that is possible."""
    wrk = shutil.which("wrk")
    if wrk is None and shutil.which("apt-get"):
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        say("installing wrk")
        try:
            run([*sudo, "apt-get", "update", "-qq"])
            run([*sudo, "apt-get", "install", "-y", "-qq", "wrk"])
        except OSError:
            pass
        wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("benchmark: wrk is missing: apt-get install wrk")
    return wrk


def compile_programs(build: Path) -> None:
    """Compile the floor and the load generators."""
    build.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    headers = max(header.stat().st_mtime for header in (HERE / "floor").glob("*.h"))
    for source in (HERE / "floor").glob("*.c"):
        target = build / source.stem
        changed = max(source.stat().st_mtime, headers)
        if target.exists() and target.stat().st_mtime > changed:
            continue
        done = run([compiler, "-O2", "-o", str(target), str(source), "-lm"])
        if done.returncode != 0:
            sys.exit(f"benchmark: cannot compile {source.name}:\n{done.stderr}")
