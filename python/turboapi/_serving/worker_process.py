"""A worker as its supervisor has it: a process that runs `worker`.

Four pipes connect them: one brings the settings, one the worker's heartbeat (`heartbeat`), one the
stacks of its threads when it was asked for them, and one tells the worker that the supervisor is
gone, so that none is left behind when that was killed.
"""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turboapi._serving.heartbeat import READY, RETIRES
from turboapi._serving.process import is_running

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Protocol

    from turboapi._serving.templates import Template
    from turboapi.config import Config

    class _Child(Protocol):
        @property
        def pid(self) -> int: ...
        def poll(self) -> int | None: ...
        def send_signal(self, sig: int, /) -> None: ...
        def wait(self, timeout: float | None = None) -> int: ...


_PROGRAM = "turboapi._serving.worker"

# The worker's application can't be found or does not start: to try again is of no use.
EXIT_NO_APP = 3

# Has a worker write the stacks of its threads; handled in C, as its loop may be stuck.
SHOW_STACKS = signal.SIGRTMAX - 2
_MOST_OF_STACKS = 1 << 18


class Process:
    """A worker as the supervisor sees it.

    Attributes:
        pid: of the process.
        retires: it wants to be replaced.
        ready: it said that it accepts connections.
        started: when, on the monotonic clock.
        heard_at: when the last beat came, or a later time from which on it is to be missed.
        asked_at: when it was asked for its stacks, or None.
        exit_code: None while it runs; negative: the signal that ended it.
    """

    def __init__(self, child: _Child, beats: int | None, life: int, stacks: int) -> None:
        """See `start`; the pipes become ours."""
        self.pid = child.pid
        self.ready = self.retires = False
        self.started = self.heard_at = time.monotonic()
        self.asked_at: float | None = None
        self._child = child
        self._beats = beats
        self._life = life
        self._stacks = stacks
        self._shown = b""
        for descriptor in (beats, stacks):
            if descriptor is not None:
                os.set_blocking(descriptor, False)

    @classmethod
    def fork(cls, config: Config, bound: list[socket.socket], template: Template) -> Process:
        """Do the same from a template, whose workers always have a group of their own.

        Raises:
            OSError: it can't (TemplateError), or there are no more descriptors.
        """
        (ready_read, ready_write), (life_read, life_write), (stacks_read, stacks_write) = _pipes(3)
        theirs = [ready_write, life_read, stacks_write]
        shared = [] if config.metrics_fd is None else [config.metrics_fd]
        try:
            child = template.fork(
                {"config": config},
                [*theirs, *shared, *(each.fileno() for each in bound)],
            )
        except BaseException:
            for descriptor in (ready_read, life_write, stacks_read):
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return cls(child, ready_read, life_write, stacks_read)

    @classmethod
    def start(cls, config: Config, bound: list[socket.socket], *, own_group: bool) -> Process:
        """Start a worker that serves `bound` (borrowed: the worker has descriptors of its own).

        With `own_group` it is out of the terminal's reach, and Ctrl+C is the supervisor's alone.

        Raises:
            OSError: the system has no more descriptors or processes for it.
        """
        (config_read, config_write), (ready_read, ready_write), *others = _pipes(4)
        (life_read, life_write), (stacks_read, stacks_write) = others
        shared = () if config.metrics_fd is None else (config.metrics_fd,)
        theirs = (config_read, ready_write, life_read, stacks_write)
        # A signal that comes early waits until the worker can end in order.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            popen = subprocess.Popen(  # noqa: S603
                [sys.executable, *interpreter_options(), "-m", _PROGRAM, str(config_read)],
                pass_fds=(*theirs, *shared, *(each.fileno() for each in bound)),
                process_group=0 if own_group else None,
            )
        except BaseException:
            for descriptor in (config_write, ready_read, life_write, stacks_read):
                os.close(descriptor)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for descriptor in theirs:
                os.close(descriptor)
        worker_config = config.served_by(bound).replace(ready_fd=ready_write)
        message = {
            "config": worker_config,
            "life": life_read,
            "stacks": stacks_write,
            "path": sys.path,
        }
        # Less than a pipe holds, so this does not wait; the worker may be dead already.
        with suppress(BrokenPipeError), open(config_write, "wb") as pipe:  # noqa: PTH123
            pickle.dump(message, pipe)
        return cls(popen, ready_read, life_write, stacks_read)

    def hand_over(self) -> dict[str, Any]:
        """Return what `adopt` needs in the program that this process runs next."""
        for descriptor in (self._beats, self._life, self._stacks):
            if descriptor is not None:
                os.set_inheritable(descriptor, True)
        return {
            "pid": self.pid,
            "beats": self._beats,
            "life": self._life,
            "stacks": self._stacks,
        }

    @classmethod
    def adopt(cls, given: dict[str, Any]) -> Process:
        """Return a worker that this process started, and was ready, before it ran our program."""
        pipes = [given[name] for name in ("beats", "life", "stacks")]
        for descriptor in pipes:
            if descriptor is not None:
                os.set_inheritable(descriptor, False)
        worker = cls(_Adopted(given["pid"]), *pipes)
        worker.ready = True
        return worker

    @property
    def exit_code(self) -> int | None:
        return self._child.poll()

    def beats_fd(self) -> int:
        """Return the pipe of the heartbeat; -1: it is closed."""
        return -1 if self._beats is None else self._beats

    def sources(self) -> list[int]:
        """Return the pipes that become readable when `read_news` has something to do."""
        found = [] if self._beats is None else [self._beats]
        return found if self.asked_at is None else [*found, self._stacks]

    def read_news(self) -> bool:
        """Read what the worker wrote meanwhile, if anything; True: it has become ready."""
        self._read_stacks()
        was_ready, news = self.ready, None
        while self._beats is not None and (news := _read(self._beats)) is not None:
            self.heard_at = time.monotonic()
            self.ready = self.ready or READY in news
            self.retires = self.retires or RETIRES in news
            if not news:  # it ended, or does not beat
                os.close(self._beats)
                self._beats = None
        return self.ready and not was_ready

    @property
    def beats(self) -> bool:
        """Whether its heartbeat is to be heard."""
        return self.ready and self._beats is not None

    def misses_beats(self, timeout: float, now: float) -> bool:
        """Return whether it has been silent for longer than `timeout`, which it should not be."""
        return self.beats and now - self.heard_at >= timeout

    def ask_for_stacks(self, now: float) -> None:
        """Has it write the stacks of its threads, which `stacks` gives a little later."""
        self.asked_at = now
        self._shown = b""
        self.send(SHOW_STACKS)

    def stacks(self) -> str:
        """Return what came after `ask_for_stacks`; empty: it can't even do that."""
        self._read_stacks()
        return self._shown.decode(errors="replace").strip()

    def _read_stacks(self) -> None:
        while news := _read(self._stacks):
            if len(self._shown) < _MOST_OF_STACKS:
                self._shown += news

    def is_held(self) -> bool:
        """Return whether somebody has stopped it (SIGSTOP), or looks at it with a debugger."""
        with suppress(OSError):
            fields = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            return fields["State"][0] in "Tt" or fields["TracerPid"] != "0"
        return False

    def send(self, number: int) -> None:
        """Send a signal, if the process is there to get it."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                self._child.send_signal(number)

    def wait(self, timeout: float | None) -> bool:
        """Wait for the end; False: it still runs."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout)
        return self.exit_code is not None

    def close(self) -> None:
        """Frees the pipes, at the end."""
        if self._beats is not None:
            os.close(self._beats)
            self._beats = None
        os.close(self._life)
        os.close(self._stacks)

    def how_it_ended(self) -> str:
        """Return the exit code in words."""
        return how_it_ended(self.exit_code)


class _Adopted:
    """A child that another program of this process started, as `subprocess.Popen` has it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # taken by somebody else
                pid, status = self.pid, 0
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        return _wait(self.poll, timeout)


class Forked:
    """A worker that a template has forked: it is that one's child.

    Attributes:
        pid: its process id.
        code: its exit code, as soon as the template has told it.
        is_orphan: the template has died, so that nobody will.
    """

    def __init__(self, pid: int, read_news: Callable[[], None]) -> None:
        self.pid = pid
        self.code: int | None = None
        self.is_orphan = False
        self._read_news = read_news

    def poll(self) -> int | None:
        """Return the exit code; None: it runs."""
        if self.code is None and not self.is_orphan:
            self._read_news()
        if self.code is None and self.is_orphan:
            self._look_for_it()
        return self.code

    def _look_for_it(self) -> None:
        with suppress(ChildProcessError):  # process 1 of a container is its parent now
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            return
        if not is_running(self.pid):
            self.code = -signal.SIGKILL  # as far as anybody knows

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        return _wait(self.poll, timeout)


def _wait(poll: Callable[[], int | None], timeout: float | None) -> int:
    end = None if timeout is None else time.monotonic() + timeout
    while (code := poll()) is None:
        if timeout is not None and end is not None and time.monotonic() >= end:
            raise subprocess.TimeoutExpired("worker", timeout)
        time.sleep(0.02)
    return code


def _pipes(count: int) -> list[tuple[int, int]]:
    """Return so many pipes, or none if there are not so many."""
    made: list[tuple[int, int]] = []
    try:
        made += (os.pipe() for _ in range(count))
    except OSError:
        for descriptor in itertools.chain(*made):
            os.close(descriptor)
        raise
    return made


def _read(pipe: int) -> bytes | None:
    """Return what is in a pipe; None: nothing now, b"": its end."""
    try:
        return os.read(pipe, 65536)
    except BlockingIOError:
        return None


def how_it_ended(code: int | None) -> str:
    """Return the exit code of a process in words."""
    if code is None:
        return "still runs"
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def interpreter_options() -> list[str]:
    """Return the options this interpreter was started with (-X, -W, -O ...)."""
    give: Any = getattr(subprocess, "_args_from_interpreter_flags", list)
    return list(give())
