#!/usr/bin/env python3
"""Runs the own tests of published FastAPI projects on TurboAPI; see docs/real-projects.md.

    scripts/real_projects.py                     # all of them, all doors
    scripts/real_projects.py sqlmodel --door socket

Each project's source distribution and requirements come from the package index that pip is set up
for, into a virtual environment of its own below --dir, with FastAPI 0.165.0 and TurboAPI built from
this clone. Its tests then run once a door (scripts/socket_door.py); the exit code is 1 when a door
has other results than the baseline, which is FastAPI itself.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOORS = ("fastapi", "alias", "socket", "alias-socket")
FASTAPI = "fastapi==0.165.0"


@dataclass(frozen=True)
class Project:
    """A source distribution with tests in it."""

    version: str
    extras: str = ""
    requirements: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ("tests",)


PROJECTS = {
    # Registration, login, OAuth2, JSON Web Tokens, generators as dependencies.
    "fastapi-users": Project(
        "15.0.5",
        extras="[sqlalchemy,oauth,redis]",
        requirements=("pytest-asyncio", "pytest-mock", "asgi-lifespan", "aiosqlite", "httpx"),
    ),
    # The applications of its tutorial, a database each.
    "sqlmodel": Project(
        "0.0.50",
        requirements=("coverage", "dirty-equals", "httpx", "jinja2"),
        arguments=("tests/test_tutorial/test_fastapi",),
    ),
    # Reads and changes FastAPI's routes; the tests of its database drivers are left out.
    "fastapi-pagination": Project(
        "0.16.1",
        extras="[sqlalchemy,sqlmodel]",
        requirements=(
            *("pytest-asyncio", "asgi-lifespan", "dirty-equals", "faker", "httpx", "aiosqlite"),
            *("asyncpg", "scylla-driver", "pymongo", "tortoise-orm", "psycopg[binary]"),
        ),
        arguments=(
            *("tests", "--ignore", "tests/ext", "--postgres-dsn", "postgresql://127.0.0.1:1/no"),
            *("--mongodb-dsn", "mongodb://127.0.0.1:1", "--cassandra-dsn", "127.0.0.1"),
            *("--firestore-dsn", "none"),
        ),
    ),
    # Versions of an API, and WebSockets of them; on private parts of FastAPI.
    "cadwyn": Project(
        "9.0.0",
        extras="[standard]",
        requirements=("dirty-equals", "httpx", "inline-snapshot", "pytest-fixture-classes"),
        arguments=(
            *("tests/test_applications.py", "tests/test_routing.py", "tests/test_websockets.py"),
            "tests/test_websocket_migrations.py",
        ),
    ),
}


def prepare(name: str, folder: Path) -> tuple[Path, Path]:
    """Return the project's folder and the Python that has all it needs."""
    project = PROJECTS[name]
    packed = f"{name.replace('-', '_')}-{project.version}"
    source = folder / packed
    venv = folder / "venv" / name
    python = venv / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    if not source.exists():
        wanted = ["--no-deps", "--no-binary", name, f"{name}=={project.version}"]
        subprocess.run([*pip, "download", *wanted, "--dest", folder], check=True)
        with tarfile.open(folder / f"{packed}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    wanted = [f"{source}{project.extras}", *project.requirements, "pytest", "websockets", FASTAPI]
    subprocess.run([*pip, "install", *wanted, str(ROOT)], check=True)
    return source, python


def run(name: str, source: Path, python: Path, door: str) -> str:
    """Pytest's last line but for the time that it took."""
    project = PROJECTS[name]
    # What a test starts has the door, too.
    environment = {
        **os.environ,
        "DOOR": door,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTEST_ADDOPTS": "-p socket_door -p no:cacheprovider",
        "PYTHONPATH": str(ROOT / "scripts"),
    }
    done = subprocess.run(
        [python, "-m", "pytest", "-q", *project.arguments],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    for line in lines:
        if line.startswith(("FAILED", "ERROR", "door:")):
            print(f"    {line}")
    # Warnings are not counted: Starlette's TestClient gives other ones.
    last = lines[-1] if lines else done.stderr[-500:]
    return re.sub(r",? \d+ warnings?| in [\d.:s ()]+", "", last).strip("= ")


def main() -> int:
    """Prepare and run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("projects", nargs="*", choices=[[], *PROJECTS], help="default: all")
    parser.add_argument("--door", action="append", choices=DOORS, help="default: all")
    parser.add_argument("--dir", type=Path, default=ROOT / ".cache" / "real-projects")
    arguments = parser.parse_args()
    folder = arguments.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").touch()  # pytest looks no further up, where ours is
    different = 0
    for name in arguments.projects or PROJECTS:
        print(f"{name} {PROJECTS[name].version}")
        source, python = prepare(name, folder)
        expected = None
        for door in dict.fromkeys(["fastapi", *(arguments.door or DOORS)]):
            result = run(name, source, python, door)
            expected = expected or result
            different += result != expected
            print(f"  {door:13} {result}{'' if result == expected else '   DIFFERENT'}", flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
