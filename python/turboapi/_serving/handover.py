"""SIGHUP in a process that serves alone: another one takes over, as with several workers.

The successor is a worker. When it serves, this process finishes what it has, ends the application,
and becomes the supervisor of the worker under its old number, which service managers know. It
does so by running another program (`python -m turboapi._serving.supervisor`), so that nothing of
the old application stays. Until the first SIGHUP there is one process, and nothing of this costs
anything.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from turboapi._serving import metrics, notify, process, sockets, upgrade
from turboapi._serving.log import server_logger as log
from turboapi._serving.signals import Signals
from turboapi._serving.supervisor import SIGNALS, Supervisor
from turboapi._serving.worker_process import Process, interpreter_options

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import NoReturn

    from turboapi.config import Config

# Between two looks at a successor that should have ended, and how many before it is killed.
_LOOK = 0.05
_LOOKS = 40
# What a successor may take longer than the server's own grace period, to clean up.
_EXTRA_GRACE = 5.0


class Handover:
    """A successor in the making; all but `finish` is called in the event loop."""

    def __init__(self, config: Config, bound: list[socket.socket]) -> None:
        """`bound` is borrowed: we keep descriptors of our own."""
        self._config = config
        # dup() would have others that accept from the same ones wait.
        self._sockets = [socket.socket(fileno=os.dup(each.fileno())) for each in bound]
        self._successor: Process | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._on_ready: Callable[[], None] | None = None
        self._program: upgrade.NewProgram | None = None
        self._stopped = False
        self._once_more = False  # asked for again: the code may have changed since

    def begin(self, loop: asyncio.AbstractEventLoop, on_ready: Callable[[], None]) -> None:
        """Start a successor; `on_ready` is called when it serves."""
        if self._successor is not None:
            if not self._once_more:
                log.info("SIGHUP: process %d is starting; then once more", self._successor.pid)
            self._once_more = True
            return
        try:
            successor = Process.start(self._config, self._sockets, own_group=True)
        except OSError as error:
            log.error("SIGHUP: no successor can be started: %s", error)
            return
        log.info("SIGHUP: process %d is to take over", successor.pid)
        self._successor, self._loop, self._on_ready = successor, loop, on_ready
        loop.add_reader(successor.beats_fd(), self._on_news)
        if self._config.timeout_worker_start:
            self._timer = loop.call_later(
                self._config.timeout_worker_start, self._fail, "is not ready in time"
            )

    def start_anew(self, loop: asyncio.AbstractEventLoop, on_ready: Callable[[], None]) -> None:
        """Start the program anew; `on_ready` is called when it serves."""
        if self._program is not None or self._successor is not None:
            log.warning("SIGUSR2: a successor is starting already")
            return
        try:
            program = upgrade.NewProgram(self._config, self._sockets, time.monotonic())
        except OSError as error:
            log.error("SIGUSR2: the program can't be started anew: %s", error)
            return
        log.info("SIGUSR2: process %d is to take over", program.pid)
        self._program, self._loop = program, loop
        loop.add_reader(program.fileno(), self._on_program, loop, program, on_ready)
        if self._config.timeout_worker_start:
            self._timer = loop.call_later(self._config.timeout_worker_start, program.kill)

    def _on_program(
        self,
        loop: asyncio.AbstractEventLoop,
        program: upgrade.NewProgram,
        on_ready: Callable[[], None],
    ) -> None:
        loop.remove_reader(program.fileno())
        if self._timer is not None:
            self._timer.cancel()
        ready = program.state() == "ready"
        program.close()
        self._program = None
        if not ready:
            log.error("Process %d did not come to serve; this one goes on", program.pid)
            return
        log.info("Process %d has taken over", program.pid)
        notify.successor(program.pid)
        sockets.leave_files()
        upgrade.tell_replaced()
        on_ready()

    def _on_news(self) -> None:
        assert self._successor is not None
        assert self._loop is not None
        fd = self._successor.beats_fd()
        if self._successor.read_news():
            self._forget(fd)
            log.info("Process %d has taken over", self._successor.pid)
            if self._on_ready is not None:
                self._on_ready()
        elif not self._successor.sources():
            self._forget(fd)
            self._await_end(_LOOKS)

    def _forget(self, fd: int) -> None:
        if self._loop is not None:
            self._loop.remove_reader(fd)
        if self._timer is not None:
            self._timer.cancel()

    def _await_end(self, looks: int) -> None:
        assert self._successor is not None
        assert self._loop is not None
        if self._successor.exit_code is None and looks:
            self._loop.call_later(_LOOK, self._await_end, looks - 1)
        else:
            self._fail(self._successor.how_it_ended())

    def _fail(self, reason: str) -> None:
        successor = self._successor
        if successor is None or self._stopped:
            return
        if successor.sources():
            self._forget(successor.beats_fd())
        log.error("Process %d %s; this one goes on", successor.pid, reason)
        notify.ready("The old process goes on")
        successor.send(signal.SIGKILL)
        successor.wait(1)
        successor.close()
        self._successor = None
        if self._once_more and self._loop is not None and self._on_ready is not None:
            self._once_more = False
            self.begin(self._loop, self._on_ready)

    def stop(self) -> None:
        """Tell who is to take over to end, as we were told (maybe again)."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        sockets.close(self._sockets)
        if self._successor is not None:
            self._successor.send(signal.SIGTERM)
        if self._program is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._program.fileno())
            self._program.send(signal.SIGTERM)

    def finish(self, code: int) -> int:
        """Finish when this process serves no more; return its exit code, if it is to end.

        With a successor that serves it becomes the supervisor, and does not return then unless
        it is but a part of another program.
        """
        successor, self._successor = self._successor, None
        if self._program is not None and self._stopped:
            _await_end(self._program, self._config.timeout_graceful_shutdown)
        if successor is None:
            sockets.close(self._sockets)
            return code
        if self._stopped:
            _await_end(successor, self._config.timeout_graceful_shutdown)
            return code
        if not successor.ready:
            # We were ended by something else than a signal.
            successor.send(signal.SIGTERM)
            successor.close()
            sockets.close(self._sockets)
            return code
        if process.is_whole():
            with suppress(OSError):  # no such interpreter any more
                self._become_supervisor(successor)
        supervisor = Supervisor(
            self._config, bound=self._sockets, first=successor, replace=self._once_more
        )
        return supervisor.run()

    def _become_supervisor(self, successor: Process) -> NoReturn:
        # What comes from here on waits for the supervisor.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        state = {
            "config": self._config,
            "fds": [each.fileno() for each in self._sockets],
            "files": sockets.files(),
            "first": successor.hand_over(),
            "replace": self._once_more,
            "path": sys.path,
            "command": process.command(),
            "manager": process.from_manager(),
        }
        for each in self._sockets:
            each.set_inheritable(True)
        metrics.keep(self._config)
        read, write = os.pipe()
        os.set_inheritable(read, True)
        with open(write, "wb") as pipe:  # noqa: PTH123
            pickle.dump(state, pipe)
        program = [sys.executable, *interpreter_options(), "-m", "turboapi._serving.supervisor"]
        process.finish(lambda: os.execv(sys.executable, [*program, str(read)]))  # noqa: S606


def _await_end(successor: Process | upgrade.NewProgram, grace: float) -> None:
    """Wait for a successor that was told to end; pass on the signals that come meanwhile."""
    limit = time.monotonic() + grace + _EXTRA_GRACE if grace else None
    with Signals((signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)) as signals:
        while successor.exit_code is None:
            left = None if limit is None else max(0.0, limit - time.monotonic())
            for number in signals.wait(left):
                if number is not signal.SIGCHLD:
                    successor.send(signal.SIGTERM)
            if left == 0:
                successor.send(signal.SIGKILL)
                limit = None
    successor.close()
