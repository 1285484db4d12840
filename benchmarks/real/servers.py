"""Who is measured in the realistic benchmark, and how each is started."""

from __future__ import annotations

import sysconfig

from harness.servers import FASTAPI, HERE, Command, Server, Setup

from .cases import CASES

APPS = HERE / "real" / "apps"
ALL = [case.key for case in CASES]
TURBOAPI = {"BENCH_FRAMEWORK": "turboapi"}


def site_packages(setup: Setup) -> str:
    return sysconfig.get_path("purelib", vars={"base": str(setup.peers)})


def _run(setup: Setup, *command: str) -> list[str]:
    """Add the applications to the path."""
    return ["env", f"PYTHONPATH={APPS}", *command]


def turboapi(*options: str) -> Command:
    """Return the project's own server; the client libraries are those of the peers' venv."""

    def command(setup: Setup, variant: str, port: int) -> list[str]:
        return [
            *["env", f"PYTHONPATH={APPS}:{site_packages(setup)}", setup.python],
            *["-m", "turboapi", "run", f"real_shared:{variant}"],
            *["--host", "127.0.0.1", "--port", str(port)],
            *["--no-access-log", "--log-level", "warning", *options, *setup.turboapi_args],
        ]

    return command


def uvicorn(module: str) -> Command:
    """Return uvicorn with uvloop and httptools; `{}` in the module stands for the variant."""

    def command(setup: Setup, variant: str, port: int) -> list[str]:
        return _run(
            setup,
            *[setup.peer_python, "-m", "uvicorn", module.format(variant), "--port", str(port)],
            *["--loop", "uvloop", "--http", "httptools"],
            *["--no-access-log", "--log-level", "warning"],
        )

    return command


def granian(module: str) -> Command:
    """Return granian with one worker and uvloop."""

    def command(setup: Setup, variant: str, port: int) -> list[str]:
        return _run(
            setup,
            *[setup.peer_python, "-m", "granian", "--interface", "asgi", "--port", str(port)],
            *["--workers", "1", "--loop", "uvloop"],
            *["--no-access-log", "--log-level", "warning", module.format(variant)],
        )

    return command


def peregrine(module: str) -> Command:
    """Return peregrine-server with one worker; it loads uvloop."""

    def command(setup: Setup, variant: str, port: int) -> list[str]:
        return _run(
            setup,
            *[str(setup.peers / "bin" / "peregrine"), "--port", str(port), "--workers", "1"],
            *["--python-path", str(APPS), module.format(variant)],
        )

    return command


def bolt(setup: Setup, _variant: str, port: int) -> list[str]:
    """Return Django-Bolt's own server with one process."""
    return _run(
        setup,
        *[setup.peer_python, "-m", "bolt.manage", "runbolt", "--host", "127.0.0.1"],
        *["--port", str(port), "--processes", "1", "--no-admin"],
    )


SERVERS = [
    Server("turboapi", "TurboAPI", turboapi(), ALL, env=TURBOAPI),
    Server("turboapi-uvloop", "TurboAPI, uvloop", turboapi("--loop", "uvloop"), ALL, env=TURBOAPI),
    Server("unchanged", "FastAPI under turboapi run", turboapi(), ALL, "fastapi", FASTAPI),
    Server(
        "fastapi-uvicorn", "FastAPI + uvicorn", uvicorn("real_shared:{}"), ALL, "uvicorn", FASTAPI
    ),
    Server(
        "fastapi-granian", "FastAPI + granian", granian("real_shared:{}"), ALL, "granian", FASTAPI
    ),
    Server("blacksheep", "BlackSheep + uvicorn", uvicorn("real_blacksheep:{}"), ALL, "blacksheep"),
    Server("litestar", "Litestar + uvicorn", uvicorn("real_litestar:{}"), ALL, "litestar"),
    Server("bolt", "Django-Bolt", bolt, ALL, "django-bolt"),
    Server(
        "raw-peregrine",
        "raw ASGI + peregrine",
        peregrine("real_raw:app"),
        [key for key in ALL if key != "jwt"],
        "peregrine-server",
    ),
]
BY_KEY = {server.key: server for server in SERVERS}
OURS = ["turboapi", "turboapi-uvloop", "unchanged"]

# Servers, frameworks, and the client libraries, which are the same for all.
PACKAGES = [
    "fastapi",
    "uvicorn[standard]",
    "granian[uvloop]",
    "peregrine-server",
    "blacksheep",
    "litestar",
    "django-bolt",
    "asyncpg",
    "psycopg[binary]",
    "sqlalchemy[asyncio]",
    "redis",
    "httpx",
    "Jinja2",
    "PyJWT",
    "asgi-correlation-id",
    "starlette-exporter",
    "matplotlib",
]
