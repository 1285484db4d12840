"""The page of a test, with its folder, its server and the commands it gives."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import patience
import pytest
from blocks import Block, Command, commands_of, matches
from ports import free_port

_SERVES = re.compile(r"turboapi (run|dev)\b(?!.*--help)")
_PORT = "8000"
_OURS = re.compile(r"PYTEST|^CI$|^GITHUB_|^BUILD_NUMBER$")


class Reader:
    """Does what a page says, in a folder of its own, as a reader would.

    Files are written where their titles say, `turboapi run` stays in the background until the next
    one or the end of the page, and other commands must print what the page says.
    """

    def __init__(self, folder: Path, log: Path):
        self.folder = folder
        self.log = log
        self.server: subprocess.Popen[bytes] | None = None
        self.port = str(free_port())
        self.environ = {
            # A reader has no pytest round it and is not CI, which pytest and its plugins tell of.
            **{name: value for name, value in os.environ.items() if not _OURS.search(name)},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PORT": self.port,
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }

    def do(self, block: Block) -> None:
        """Write the file of a block, run its program or its commands."""
        if block.language == "console":
            for command in commands_of(block):
                self._command(command)
        elif block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._run([sys.executable, "-c", block.text], block.line)

    def _command(self, command: Command) -> None:
        text = command.text.replace(_PORT, self.port)
        if _SERVES.match(text):
            self._serve(text, command)
            return
        printed = self._run(["bash", "-c", text], command.line).replace(self.port, _PORT)
        assert matches(command.output, printed), (
            f"line {command.line}: {command.text} prints\n{printed}"
        )

    def _run(self, command: list[str], line: int) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience.seconds(30),
            check=False,
        )
        assert done.returncode == 0, f"line {line}: {command[-1]}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _serve(self, text: str, command: Command) -> None:
        self.stop()
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                ["bash", "-c", f"exec {text}"],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + patience.seconds(20)
        while time.monotonic() < end and self.server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"line {command.line}: {text}\n{self.log.read_text()}")
        for line in command.output:
            assert re.search(
                ".*".join(map(re.escape, line.replace(_PORT, self.port).split("..."))),
                self.log.read_text(),
            ), f"line {command.line}: the log has no {line!r}:\n{self.log.read_text()}"

    def stop(self) -> None:
        """End the server of the page, if there is one."""
        if self.server is None:
            return
        if self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(patience.seconds(10))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.server.pid, signal.SIGKILL)
            self.server = None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    folder = tmp_path / "page"
    folder.mkdir()
    one = Reader(folder, tmp_path / "log.txt")
    yield one
    one.stop()
