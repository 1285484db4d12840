"""Who is measured: how each server is started and which cases its application has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
APPS = HERE / "apps"

ALL = [
    "sync",
    "async",
    "path",
    "post",
    "form",
    "rows",
    "deps",
    "middleware",
    "cors",
    "sleep64",
    "sleep1000",
    "upload",
    "download",
    "stream",
    "stream_def",
    "lines",
    "events",
    "ws",
]


@dataclass(frozen=True)
class Setup:
    """Where things are: the interpreter under test, the peers' venv, the compiled floor."""

    python: str
    peers: Path
    build: Path
    turboapi_args: list[str] = field(default_factory=list)

    @property
    def peer_python(self) -> str:
        """Return the interpreter that has the peers."""
        return str(self.peers / "bin" / "python")


Command = Callable[[Setup, str, int], list[str]]


@dataclass(frozen=True)
class Server:
    """`command(setup, variant, port)` starts it; `package` must be importable, if it is a peer."""

    key: str
    title: str
    command: Command
    cases: list[str]
    package: str = ""
    env: dict[str, str] = field(default_factory=dict)


def floor(setup: Setup, _variant: str, port: int) -> list[str]:
    """Return the bare epoll server."""
    return [str(setup.build / "limit_epoll"), str(port)]


def turboapi(setup: Setup, variant: str, port: int) -> list[str]:
    """Return the project's own server, with its default settings."""
    return [
        setup.python,
        *["-m", "turboapi", "run", f"shared_app:{variant}", "--app-dir", str(APPS)],
        *["--host", "127.0.0.1", "--port", str(port)],
        *["--no-access-log", "--log-level", "warning", *setup.turboapi_args],
    ]


def uvicorn(module: str) -> Command:
    """Return uvicorn with uvloop and httptools; `{}` in the module stands for the variant."""

    def command(setup: Setup, variant: str, port: int) -> list[str]:
        return [
            setup.peer_python,
            *["-m", "uvicorn", module.format(variant), "--app-dir", str(APPS)],
            *["--port", str(port), "--no-access-log", "--log-level", "warning"],
        ]

    return command


def granian(module: str) -> Command:
    """Return granian with one worker."""

    def command(setup: Setup, variant: str, port: int) -> list[str]:
        return [
            setup.peer_python,
            *["-m", "granian", "--interface", "asgi", "--port", str(port), "--workers", "1"],
            *["--no-access-log", "--log-level", "warning", module.format(variant)],
        ]

    return command


def peregrine(module: str) -> Command:
    """Return peregrine-server with one worker; it loads uvloop when that is installed."""

    def command(setup: Setup, variant: str, port: int) -> list[str]:
        return [
            str(setup.peers / "bin" / "peregrine"),
            *["--port", str(port), "--workers", "1", "--python-path", str(APPS)],
            module.format(variant),
        ]

    return command


def script(name: str, *args: str) -> Command:
    """Return a program of the apps folder, which takes BENCH_PORT from the environment."""

    def command(setup: Setup, _variant: str, _port: int) -> list[str]:
        return [setup.peer_python, str(APPS / name), *args]

    return command


FASTAPI = {"BENCH_FRAMEWORK": "fastapi"}
YIELDED = ["stream_def", "lines", "events"]
RAW = ["async", "sleep64", "sleep1000", "upload", "download", "stream", "ws"]

SERVERS = [
    Server("floor", "bare epoll (the floor)", floor, ["sync"]),
    Server("turboapi", "TurboAPI", turboapi, ALL, env={"BENCH_FRAMEWORK": "turboapi"}),
    Server(
        "fastapi-uvicorn", "FastAPI + uvicorn", uvicorn("shared_app:{}"), ALL, "fastapi", FASTAPI
    ),
    Server(
        "fastapi-granian", "FastAPI + granian", granian("shared_app:{}"), ALL, "granian", FASTAPI
    ),
    Server("raw-uvicorn", "raw ASGI + uvicorn", uvicorn("raw_asgi:app"), RAW, "uvicorn"),
    Server("raw-granian", "raw ASGI + granian", granian("raw_asgi:app"), RAW, "granian"),
    Server(
        "raw-peregrine",
        "raw ASGI + peregrine",
        peregrine("raw_asgi:app"),
        RAW,
        "peregrine-server",
    ),
    Server(
        "robyn",
        "Robyn",
        script("robyn_app.py", "--log-level", "ERROR"),
        ["sync", "async", "path", "post", "rows", "sleep64", "sleep1000", "upload"],
        "robyn",
    ),
    Server(
        "blacksheep",
        "BlackSheep + uvicorn",
        uvicorn("blacksheep_app:app"),
        [c for c in ALL if c not in ("form", "deps", "middleware", "cors", *YIELDED)],
        "blacksheep",
    ),
    Server(
        "litestar",
        "Litestar + uvicorn",
        uvicorn("litestar_app:{}"),
        [c for c in ALL if c not in ("form", "middleware", *YIELDED)],
        "litestar",
    ),
    Server(
        "falcon",
        "Falcon + FastPySGI",
        script("falcon_app.py"),
        ["sync", "path", "post", "rows", "upload"],
        "fastpysgi",
    ),
    Server(
        "socketify",
        "socketify",
        script("socketify_app.py"),
        ["sync", "async", "path", "post", "sleep64", "sleep1000", "ws"],
        "socketify",
    ),
]

BY_KEY = {server.key: server for server in SERVERS}

# Distributions, each installed by its name: one that does not install is reported and left out.
PEERS = [
    "fastapi",
    "python-multipart",
    "uvicorn[standard]",
    "granian",
    "peregrine-server",
    "robyn",
    "blacksheep",
    "litestar",
    "falcon",
    "fastpysgi",
    "socketify",
    "matplotlib",
]

DEFAULT_PYTHON = sys.executable
