"""What a person at a terminal is told: at the start, and when Ctrl+C has to wait."""

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import patience
import pytest
from cli_kit import LOCAL, Server, run
from patience import until

from turboapi._serving.signals import ONE_STOP

APP = """
import asyncio
from turboapi import FastAPI
app = FastAPI(MORE)

@app.get("/slow")
async def slow():
    await asyncio.sleep(3600)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP.replace("MORE", ""))
    return tmp_path


class Terminal:
    """`turboapi ...` in a terminal of its own."""

    def __init__(self, folder, *arguments, **environ):
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "turboapi", *arguments],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "COLUMNS": "120", **environ},
            start_new_session=True,
        )
        os.close(theirs)
        self._shown = b""
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def _read(self, ours):
        with open(ours, "rb", buffering=0) as terminal:
            try:
                while data := terminal.read(4096):
                    self._shown += data
            except OSError:  # how a terminal tells that nobody has the other end
                return

    @property
    def text(self):
        """What is shown, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self._shown.decode()).replace("\r\n", "\n")

    def saw(self, pattern):
        def look():
            assert self.process.poll() is None or re.search(pattern, self.text), self.text
            return re.search(pattern, self.text)

        return until(look, what=pattern)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(patience.seconds(10))
        self._reader.join(patience.seconds(10))


def test_on_a_terminal(folder):
    with Terminal(folder, "run", *LOCAL) as shown:
        port = shown.saw(r"Listening on http://127\.0\.0\.1:(\d+)")[1]
        for row in (
            rf"  TurboAPI \S+ +main in {re.escape(str(folder))}",
            r"  Found as +main\.py, one of the usual files",
            rf"  Address +http://127\.0\.0\.1:{port}",
            rf"  Documentation +http://127\.0\.0\.1:{port}/docs",
            r"  Ctrl\+C +to stop",
        ):
            assert re.search(f"^{row}$", shown.text, re.M), (row, shown.text)
        shown.process.send_signal(signal.SIGTERM)
        assert shown.process.wait(patience.seconds(10)) == 0


@pytest.mark.parametrize("more", ["docs_url=None", "openapi_url=None"])
def test_without_documentation(folder, more):
    (folder / "main.py").write_text(APP.replace("MORE", more))
    with Terminal(folder, "run", "main:app", "--host", "0.0.0.0", "--port", "0") as shown:
        shown.saw(r"Found as +given\n")
        shown.saw(r"Address +http://127\.0\.0\.1:\d+ \(listening on all addresses\)")
        shown.saw("Listening on http://0")
        assert "Documentation" not in shown.text


@pytest.mark.parametrize("options", [("--workers", "2"), ("--reload",)], ids=str)
def test_once_for_several_processes(folder, options):
    with Terminal(folder, "run", *LOCAL, *options) as shown:
        shown.saw("Ctrl.C +to stop")
        before = shown.text.count("Application startup complete")
        shown.process.send_signal(signal.SIGHUP)
        until(lambda: shown.text.count("Application startup complete") > max(before, 1))
        assert shown.text.count("to stop\n") == 1


def test_quiet(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ("--host", "127.0.0.1", "--port", str(port))
    with Terminal(folder, "run", *where, "--log-level", "warning") as shown:
        until(lambda: shown.process.poll() is not None or _answers(port))
        assert shown.text == ""
    with Server(folder, "run", *LOCAL).started() as server:
        assert "Ctrl+C" not in server.log


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_verbose(folder):
    (folder / "pyproject.toml").write_text('[tool.fastapi]\nentrypoint = "main:app"\n')
    with Server(folder, "run", *LOCAL, "--verbose", "--workers", "2").started() as server:
        server.saw(rf"Found as +the entrypoint in {re.escape(str(folder))}/pyproject\.toml")
        assert "Settings that differ from the defaults:\n  --host 127.0.0.1\n" in server.log
        assert "  --workers 2\n" in server.log
        assert "--announce" not in server.log


def test_ctrl_c_tells_what_it_waits_for(folder):
    with Terminal(folder, "run", *LOCAL) as shown:
        port = int(shown.saw(r"Listening on http://127\.0\.0\.1:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), patience.seconds(10)) as client:
            client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            with socket.create_connection(("127.0.0.1", port), patience.seconds(10)) as other:
                other.sendall(b"GET /docs HTTP/1.1\r\nhost: x\r\n\r\n")
                assert other.recv(4096)
            shown.process.send_signal(signal.SIGINT)
            shown.saw(r"Waiting for 1 request to end \(Ctrl\+C again, or a second signal, ends at")
            time.sleep(2 * ONE_STOP)
            shown.process.send_signal(signal.SIGINT)
            assert shown.process.wait(patience.seconds(10)) == 1
            assert "cut off 1 request" in shown.text


@pytest.mark.parametrize("command", ["run", "dev", "doctor", "migrate", "cert", "status"])
def test_the_help_fits_80_columns(folder, command):
    code, text = run(folder, command, "--help", COLUMNS="80")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
