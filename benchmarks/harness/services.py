"""Starts the servers that applications ask: Redis and PostgreSQL, as Debian packages them."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


class Missing(Exception):
    """A server is not installed, or does not start."""


def wait_for_socket(path: str) -> None:
    """Wait until somebody listens at the path."""
    until = time.monotonic() + 30
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the background."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.terminate()
        running.wait()


@contextlib.contextmanager
def redis(folder: str, values: Sequence[tuple[str, str]] = (("key", "value"),)) -> Iterator[str]:
    """Run Redis on a socket in the folder, with some values; yield the socket's path."""
    server = shutil.which("redis-server")
    if server is None:
        raise Missing("redis-server")
    path = f"{folder}/redis"
    with process(server, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder):
        wait_for_socket(path)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            for name, value in values:
                sock.sendall(f'SET {name} "{value}"\r\n'.encode())
                if sock.recv(100) != b"+OK\r\n":
                    raise Missing("redis-server: it refuses SET")
        yield path


ITEMS = (
    "CREATE TABLE items (id int PRIMARY KEY, name text);"
    "INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 100) i"
)


@contextlib.contextmanager
def postgres(folder: str, sql: str = ITEMS, options: Sequence[str] = ()) -> Iterator[str]:
    """Run PostgreSQL on a socket in `folder`/postgres, after some SQL; yield its DSN."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [""]
    initdb = shutil.which("initdb", path=found[-1] or None)
    if initdb is None:
        raise Missing("PostgreSQL")
    where = Path(initdb).parent
    # It refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    data = f"{folder}/postgres"
    os.mkdir(data)
    if user:
        os.chmod(folder, 0o755)
        shutil.chown(data, "postgres")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    name = "postgres"
    subprocess.run([*user, initdb, "-U", name, "-A", "trust", "-N", data], check=True, **quiet)
    settings = ["listen_addresses=", f"unix_socket_directories={data}", "fsync=off", *options]
    arguments = [part for setting in settings for part in ("-c", setting)]
    running = subprocess.Popen([*user, str(where / "postgres"), "-D", data, *arguments], **quiet)
    try:
        wait_for_socket(f"{data}/.s.PGSQL.5432")
        psql = [*user, str(where / "psql"), "-h", data, "-U", name, "-v", "ON_ERROR_STOP=1"]
        for _ in range(100):
            if subprocess.run([*psql, "-c", "SELECT 1"], **quiet).returncode == 0:
                break
            time.sleep(0.2)
        if subprocess.run([*psql, "-c", sql], **quiet).returncode != 0:
            raise Missing("PostgreSQL: it refuses the tables")
        yield f"postgresql://{name}@/postgres?host={data}"
    finally:
        running.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):
            pid = int(Path(data, "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGINT)
        running.wait()
