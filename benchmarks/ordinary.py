#!/usr/bin/env python3
"""Count what three ordinary applications take, and what the libraries in them take alone.

    python benchmarks/ordinary.py [--apps middleware,sentry,page] [--servers turboapi,alone]

The figures are user-mode instructions a request under callgrind: they repeat to about 1 % on a busy
machine. "alone" is the libraries' own code, round an application that does nothing but answer, on
TurboAPI's server. Some ask the framework about its routes, which is part of it: in the second of
these columns they ask FastAPI's. The kernel's work is not counted.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import install, measure
from harness.servers import DEFAULT_PYTHON, HERE, Server, Setup
from real.cases import Case
from real.instructions import Counter
from real.servers import site_packages

APPS = HERE / "ordinary"
TITLES = {
    "middleware": "Prometheus, CORS, correlation id",
    "sentry": "Sentry's SDK",
    "page": "a Jinja2 page with a session",
}
PACKAGES = [
    "fastapi",
    "uvicorn[standard]",
    "starlette-exporter",
    "asgi-correlation-id",
    "sentry-sdk",
    "Jinja2",
    "itsdangerous",
]


def turboapi(setup: Setup, app: str, port: int) -> list[str]:
    """Return the project's own server; the libraries are those of the peers' venv."""
    return [
        *["env", f"PYTHONPATH={APPS}:{site_packages(setup)}", setup.python],
        *["-m", "turboapi", "run", f"{app}:app", "--host", "127.0.0.1", "--port", str(port)],
        *["--no-access-log", "--log-level", "warning"],
    ]


def uvicorn(setup: Setup, app: str, port: int) -> list[str]:
    """Return uvicorn with uvloop and httptools."""
    return [
        *["env", f"PYTHONPATH={APPS}", setup.peer_python],
        *["-m", "uvicorn", f"{app}:app", "--port", str(port), "--loop", "uvloop"],
        *["--http", "httptools", "--no-access-log", "--log-level", "warning"],
    ]


SERVERS = {
    key: Server(key, title, command, list(TITLES), env={"BENCH_FRAMEWORK": framework})
    for key, title, command, framework in (
        ("alone", "the libraries alone", turboapi, "alone"),
        ("alone-fastapi", "the libraries with FastAPI's routes", turboapi, "alone-fastapi"),
        ("turboapi", "TurboAPI", turboapi, "turboapi"),
        ("unchanged", "FastAPI under turboapi run", turboapi, "fastapi"),
        ("uvicorn", "FastAPI + uvicorn", uvicorn, "fastapi"),
    )
}


def told(server: str, found: dict[str, float]) -> str:
    """Return a cell of the table: instructions, and as a multiple of the libraries alone."""
    text = f"{found[server] / 1000:.1f}k"
    alone = found.get("alone")
    if SERVERS[server].env.get("BENCH_FRAMEWORK") == "fastapi":  # the libraries ask its routes
        alone = found.get("alone-fastapi", alone)
    return (
        text if server.startswith("alone") or not alone else f"{text} ({found[server] / alone:.2f})"
    )


def main() -> None:
    """Count and print a line an application."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--apps", default=",".join(TITLES))
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--count", type=int, default=600, help="requests of an application")
    parser.add_argument("--python", default=DEFAULT_PYTHON, help="interpreter that has turboapi")
    parser.add_argument("--peers", type=Path, help="venv of the peers (default: .peers here)")
    parser.add_argument("--keep", metavar="FOLDER", help="where to keep callgrind's files")
    parser.add_argument("--verbose", action="store_true", help="show what the servers report")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is needed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with it
    peers = options.peers
    if peers is None:
        peers = HERE / ".peers"
        _, failed = install.install_peers(peers, options.python, PACKAGES)
        for each in failed:
            print(each, file=sys.stderr)
    columns = options.servers.split(",")
    print("| application | " + " | ".join(SERVERS[each].title for each in columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    with tempfile.TemporaryDirectory() as folder:
        counter = Counter(
            Setup(options.python, peers.absolute(), Path(folder)),
            options,
        )
        for key in options.apps.split(","):
            case = Case(key, TITLES[key], "/x/3", lambda body: b"3" in body, "", variant=key)
            found: dict[str, float] = {}
            for each in columns:
                try:
                    found[each] = counter.server(SERVERS[each], case)
                except (measure.ServerFailed, subprocess.SubprocessError) as error:
                    print(f"{key}, {each}: {error}", file=sys.stderr)
            cells = ["failed" if each not in found else told(each, found) for each in columns]
            print(f"| {TITLES[key]} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
