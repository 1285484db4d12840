"""The log on stderr: that nobody waits for whoever reads it, and nothing is lost while it is read."""

import contextlib
import http.client
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time

import patience
import pytest
from cli_kit import PATIENCE

from turboapi._serving import error_log

APP = """
import asyncio, os
from turboapi import FastAPI

app = FastAPI()

@app.get("/")
async def index():
    return os.getpid()

@app.get("/error")
async def error():
    raise ValueError("long " * 4000)

@app.get("/task")
async def task():
    asyncio.get_running_loop().call_exception_handler(
        {"message": "of the loop " * 2000, "exception": ValueError("x")}
    )
"""


class Piped:
    """`turboapi run` whose log goes into a pipe that is read while the test wants it."""

    def __init__(self, folder, *arguments):
        (folder / "main.py").write_text(APP)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "turboapi", "run", "main:app", "--port", "0", "--host",
             "127.0.0.1", "--no-access-log", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        self.said = b""
        self.port = 0

    def __enter__(self):
        try:
            said = self.read_until(rb"Listening on http://127.0.0.1:(\d+)")
            self.port = int(said[1])
            patience.until(self.answers, 30)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.stderr.close()
        self.process.wait(PATIENCE)

    def read_until(self, pattern):
        """Read the log until it has what is looked for."""
        found = []

        def read():
            while not found:
                chunk = os.read(self.process.stderr.fileno(), 65536)
                self.said += chunk
                if match := re.search(pattern, self.said):
                    found.append(match)
                elif not chunk:
                    return

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(patience.seconds(30))
        assert found, f"no {pattern!r} in:\n{self.said[-3000:].decode()}"
        return found[0]

    def answers(self):
        with contextlib.suppress(OSError):
            return self.get("/", timeout=2) == 200

    def get(self, path, timeout=PATIENCE):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            self.body = response.read()
            return response.status


def test_a_reader_that_is_stuck_holds_up_nobody(tmp_path):
    with Piped(tmp_path) as server:
        for _ in range(30):  # more than a pipe and the buffer have room for
            assert server.get("/task") == 200
            assert server.get("/error") == 500
        assert server.get("/") == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0


def test_lines_that_are_dropped_are_told_once_the_reader_goes_on(tmp_path):
    with Piped(tmp_path) as server:
        for _ in range(30):
            server.get("/error")
        first = server.read_until(rb"ValueError: long")
        assert first
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                server.get("/error")
                time.sleep(0.1)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            said = server.read_until(rb"(\d+) lines of this log were dropped")
        finally:
            stop.set()
            asking.join(PATIENCE)
        assert int(said[1]) > 5


def test_a_supervisor_goes_on_replacing_workers(tmp_path):
    with Piped(tmp_path, "--workers", "2") as server:
        for _ in range(40):
            server.get("/error")

        def pids():
            found = set()
            for _ in range(20):
                with contextlib.suppress(OSError):
                    server.get("/")
                    found.add(int(server.body))
            return found if len(found) == 2 else None

        before = patience.until(pids, 30)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        patience.until(lambda: (pids() or before).isdisjoint(before), 30)


def test_nothing_is_lost_while_it_is_read(tmp_path):
    with Piped(tmp_path) as server:

        def read():
            with contextlib.suppress(AssertionError):  # it never comes
                server.read_until(rb"never")

        threading.Thread(target=read, daemon=True).start()
        for _ in range(10):
            server.get("/error")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE)
        patience.until(lambda: server.said.count(b"ValueError: long") == 10, 10)


@contextlib.contextmanager
def pipe(monkeypatch):
    """A pipe in the place of stderr; not a fixture, after which pytest puts its own there."""
    reading, writing = os.pipe()
    stream = io.TextIOWrapper(open(writing, "wb", buffering=0), "utf-8", write_through=True)  # noqa: SIM115
    monkeypatch.setattr("sys.stderr", stream)
    yield reading
    stream.close()
    os.close(reading)


def test_a_line_is_written_when_the_call_returns(monkeypatch):
    with pipe(monkeypatch) as reading:
        logger = logging.Logger("one")
        logger.addHandler(error_log.Handler(sys.stderr))
        with error_log.unblocked():
            logger.error("first \ud800")
            assert os.read(reading, 100) == b"first \\ud800\n"
            logging.lastResort.handle(logging.makeLogRecord({"msg": "last", "levelno": 40}))
            assert os.read(reading, 100) == b"last\n"
        logger.error("directly")
        assert os.read(reading, 100) == b"directly\n"


def test_a_reader_that_comes_late_gets_the_last_lines(monkeypatch):
    with pipe(monkeypatch) as reading:
        logger = logging.Logger("one")
        logger.addHandler(error_log.Handler(sys.stderr))
        said = b""
        with contextlib.ExitStack() as stack:
            stack.enter_context(error_log.unblocked())
            for _ in range(20):  # more than the pipe has room for
                logger.error("x" * 4000)
            logger.error("the last one")

            def read():
                nonlocal said
                time.sleep(0.3)  # the end waits meanwhile
                while not said.endswith(b"the last one\n"):
                    said += os.read(reading, 65536)

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
        reader.join(PATIENCE)
        assert said.count(b"x" * 4000) == 20


def test_a_line_waits_for_a_thread_that_has_not_had_its_turn(monkeypatch):
    class Writer:
        """Which takes 0.1 s, as on a busy machine."""

        def __init__(self):
            self.lines = []
            self.patience = []

        def untold(self):
            return 0

        def put(self, text):
            self.lines.append(text)

        def flush(self, seconds):
            self.patience.append(seconds)
            return seconds >= 0.1

    with pipe(monkeypatch) as reading:
        writer = Writer()
        sink = error_log._Sink(writer, sys.stderr.fileno())
        sink.put("one\n")
        assert writer.patience[-1] > 1
        os.set_blocking(sys.stderr.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while True:  # until nobody could write
                os.write(sys.stderr.fileno(), b"x" * 4096)
        writer.patience.clear()
        sink.put("two\n")
        sink.put("three\n")
        assert max(writer.patience) < 0.1 and writer.patience[-1] == 0
        os.read(reading, 65536)
        sink.put("four\n")
        assert writer.patience[-1] > 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.15's
def test_a_child_writes_for_itself(monkeypatch):
    with pipe(monkeypatch) as reading:
        logger = logging.Logger("one")
        logger.addHandler(error_log.Handler(sys.stderr))
        with error_log.unblocked():
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(BaseException):
                    logger.error("of the child")
                os._exit(0)
            os.waitpid(pid, 0)
            assert os.read(reading, 100) == b"of the child\n"


def test_a_file_is_written_directly(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr("sys.stderr", file)
        with error_log.unblocked():
            assert error_log._state.sink is None
