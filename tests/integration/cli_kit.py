"""Starts `turboapi` in a process of its own, and asks it. Every wait has an end."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import patience

PATIENCE = patience.seconds(10)

APP = """
import asyncio, os

BODY = "one"

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = {"/pid": str(os.getpid()), "/env": os.environ.get("GREETING", "")}.get(
        scope["path"], BODY
    )
    if scope["path"].startswith("/sleep"):
        await asyncio.sleep(float(scope["path"][6:]))
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
"""


def until(condition, what):
    """Ask until the answer is true and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")


class Server:
    """`turboapi ...` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, pass_fds=(), **environ: str):
        self.log_path = folder / "log.txt"
        self.port = 0
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "turboapi", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
                pass_fds=pass_fds,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def saw(self, pattern: str) -> re.Match[str]:
        def look():
            found = re.search(pattern, self.log)
            if found is None and self.process.poll() is not None:
                found = re.search(pattern, self.log)
                assert found, f"it ended without {pattern!r}:\n{self.log}"
            return found

        try:
            return until(look, pattern)
        except AssertionError:
            raise AssertionError(f"no {pattern!r} in:\n{self.log}") from None

    def started(self):
        try:
            self.port = int(self.saw(r"Listening on http://[^ ]*:(\d+)")[1])
            until(self.answers, f"an answer; the log has:\n{self.log}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def get(self, path: str = "/", timeout: float = PATIENCE) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"connection": "close"})
            return connection.getresponse().read().decode()

    def answers(self) -> str | None:
        try:
            return self.get(timeout=2)
        except (OSError, http.client.HTTPException):
            return None

    def pids(self, count: int) -> set[int]:
        """Process ids of `count` different workers that answer."""
        found: set[int] = set()

        def ask():
            found.add(int(self.get("/pid")))
            return len(found) >= count

        until(ask, f"{count} workers, only {found}")
        return found

    def send(self, number: signal.Signals):
        self.process.send_signal(number)

    def ended(self, patience: float = PATIENCE) -> int:
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.log}") from None


def run(folder, *arguments, **environ):
    """Run a command to its end and return exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "turboapi", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environ},
    )
    return done.returncode, done.stdout


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


LOCAL = ("--host", "127.0.0.1", "--port", "0")


class Clients:
    """Threads that ask one question after another on connections that they keep."""

    def __init__(self, port: int, count: int = 8):
        self.port = port
        self.answered = 0
        self.lost: list[str] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(PATIENCE)

    def _ask(self):
        while not self.stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.connect()
            except OSError:  # Nobody listens: nothing was promised.
                time.sleep(0.01)
                continue
            with contextlib.closing(connection):
                self._ask_on(connection)

    def _ask_on(self, connection):
        for number in itertools.count():
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                assert answer.read() == b"one"
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"request {number} of a connection: {error!r}")
                return
            self.answered += 1
            if self.stop.is_set() or answer.will_close:
                return
