"""The supervisor's side of `--preload`: see `template`."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from turboapi._serving.worker_process import EXIT_NO_APP, Forked, interpreter_options

if TYPE_CHECKING:
    from turboapi.config import Config

_PROGRAM = "turboapi._serving.template"
# As `template` has it.
_LENGTH = 4
# For a fork, which copies the tables of a large process.
_FORK_GRACE = 30.0
_LAST_GRACE = 2.0


class TemplateError(OSError):
    """No worker can be forked."""


class Template:
    """The process that imports the application and forks workers.

    Attributes:
        pid: its process id.
        ready: the application is imported.
        started: when, on the monotonic clock.
    """

    def __init__(self, config: Config) -> None:
        """Start it.

        Raises:
            OSError: the system has no more descriptors or processes for it.
        """
        self.ready = False
        self.started = time.monotonic()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._said = b""
        self._answers: list[tuple[str, str]] = []
        self._children: dict[int, Forked] = {}
        self._ended: dict[int, int] = {}  # exit codes of those that were not taken by `fork` yet
        self._open = True
        try:
            self._child = subprocess.Popen(  # noqa: S603
                [sys.executable, *interpreter_options(), "-m", _PROGRAM, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )
        except BaseException:
            self._link.close()
            raise
        finally:
            theirs.close()
        self.pid = self._child.pid
        with suppress(OSError):
            self._send({"config": config, "path": sys.path}, [])

    def fileno(self) -> int:
        """Return what is readable when it has something to say; -1: never again."""
        return self._link.fileno() if self._open else -1

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    @property
    def is_needed(self) -> bool:
        """Return whether workers of it live."""
        return bool(self._children)

    @property
    def is_without_app(self) -> bool:
        """Return whether it has ended because there is no application."""
        return self.exit_code == EXIT_NO_APP

    def fork(self, message: dict[str, Any], descriptors: list[int]) -> Forked:
        """Fork a worker and return it.

        Raises:
            TemplateError: it can't.
        """
        self._answers.clear()
        self._ended.clear()
        try:
            self._send(message, descriptors)
        except OSError as error:
            raise TemplateError(f"the process that forks workers is gone: {error}") from None
        end = time.monotonic() + _FORK_GRACE
        while not self._answers:
            left = end - time.monotonic()
            if not self._open or left <= 0:
                self.kill()
                raise TemplateError("the process that forks workers does not answer")
            select.select([self._link], [], [], left)
            self.read_news()
        kind, said = self._answers.pop()
        if kind == "failed":
            raise TemplateError(f"can't fork: {said}")
        child = Forked(int(said), self.read_news)
        child.code = self._ended.pop(child.pid, None)
        if child.code is None and self._open:
            self._children[child.pid] = child
        child.is_orphan = not self._open
        return child

    def read_news(self) -> None:
        """Take what it has said meanwhile."""
        while self._open:
            try:
                piece = self._link.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            if not piece:
                self._shut()
                break
            self._said += piece
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            self._take(*line.decode().split(" ", 1))

    def _take(self, kind: str, said: str = "") -> None:
        if kind == "ready":
            self.ready = True
        elif kind == "ended":
            pid, code = map(int, said.split())
            if (child := self._children.pop(pid, None)) is not None:
                child.code = code
            else:
                self._ended[pid] = code
        else:
            self._answers.append((kind, said))

    def _shut(self) -> None:
        """Note that it has died, and that nobody tells how its workers end."""
        self._open = False
        self._link.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_LAST_GRACE)
        for child in self._children.values():
            child.is_orphan = True
        self._children.clear()

    def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        data = pickle.dumps(message)
        data = len(data).to_bytes(_LENGTH, "big") + data
        sent = socket.send_fds(self._link, [data], descriptors) if self._open else 0
        if sent < len(data):  # else it may have answered and died already
            self._link.sendall(data[sent:])

    def kill(self) -> None:
        """End it, whatever it does; its workers live on."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it when it has nothing more to do."""
        if self._open:
            self._open = False
            self._link.close()
        if not self.ready:
            self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_LAST_GRACE)
        self.kill()
