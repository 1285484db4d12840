"""A process that serves: started by the supervisor, told what to do through a pipe.

`Process` is the supervisor's side, `main()` the worker's.  Three pipes connect them: one brings the
settings, one says when the worker is ready (the server writes a byte), and one tells the worker
that the supervisor is gone, so that none is left behind when that was killed.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from turboapi import _process
from turboapi._signals import readable

if TYPE_CHECKING:
    import socket

    from turboapi.config import Config

# The worker's application can't be found or does not start: to try again is of no use.
EXIT_NO_APP = 3


class Process:
    """A worker as the supervisor sees it.

    Attributes:
        pid: of the process.
        ready: it said that it accepts connections.
        started: when, on the monotonic clock.
        exit_code: None while it runs; negative: the signal that ended it.
    """

    def __init__(self, config: Config, bound: socket.socket, *, own_group: bool) -> None:
        """Starts a worker that serves `bound` (borrowed: the worker has a descriptor of its own).

        With `own_group` it is out of the terminal's reach, and Ctrl+C is the supervisor's alone.
        """
        config_read, config_write = os.pipe()
        ready_read, ready_write = os.pipe()
        life_read, life_write = os.pipe()
        theirs = (config_read, ready_write, life_read)
        # A signal that comes early waits until the worker can end in order.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            self._popen = subprocess.Popen(  # noqa: S603
                [sys.executable, *_interpreter_options(), "-m", __name__, str(config_read)],
                pass_fds=(*theirs, bound.fileno()),
                process_group=0 if own_group else None,
            )
        except BaseException:
            for descriptor in (config_write, ready_read, life_write):
                os.close(descriptor)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for descriptor in theirs:
                os.close(descriptor)
        worker_config = config.replace(uds=None, fd=bound.fileno(), ready_fd=ready_write)
        message = {"config": worker_config, "life": life_read, "path": sys.path}
        # Less than a pipe holds, so this does not wait; the worker may be dead already.
        with suppress(BrokenPipeError), open(config_write, "wb") as pipe:  # noqa: PTH123
            pickle.dump(message, pipe)
        self.pid = self._popen.pid
        self.ready = False
        self.started = time.monotonic()
        self._ready_pipe: int | None = ready_read  # owned
        self._life_pipe = life_write  # owned

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    def fileno(self) -> int:
        """Gives the pipe that becomes readable when `read_ready` has news; -1: none will come."""
        return -1 if self._ready_pipe is None else self._ready_pipe

    def has_news(self) -> bool:
        """Whether `read_ready` would not wait."""
        return self._ready_pipe is not None and readable([self._ready_pipe], 0)

    def read_ready(self) -> None:
        """Reads the news: a byte, or the end of the pipe when it died before."""
        if self._ready_pipe is not None:
            self.ready = self.ready or bool(os.read(self._ready_pipe, 1))
            os.close(self._ready_pipe)
            self._ready_pipe = None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if the process is there to get it."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                self._popen.send_signal(number)

    def wait(self, timeout: float | None) -> bool:
        """Waits for the end; False: it still runs."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)
        return self.exit_code is not None

    def close(self) -> None:
        """Frees the pipes, at the end."""
        if self._ready_pipe is not None:
            os.close(self._ready_pipe)
            self._ready_pipe = None
        os.close(self._life_pipe)

    def how_it_ended(self) -> str:
        """Gives the exit code in words."""
        code = self.exit_code
        if code is None:
            return "still runs"
        if code >= 0:
            return f"ended with exit code {code}"
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
        return f"was ended by signal {-code}"


def _interpreter_options() -> list[str]:
    """The options this interpreter was started with (-X, -W, -O ...)."""
    give: Any = getattr(subprocess, "_args_from_interpreter_flags", list)
    return list(give())


def main(arguments: list[str]) -> int:
    """Runs in the worker: reads what to do, and serves."""
    with open(int(arguments[1]), "rb") as pipe:  # noqa: PTH123
        message = pickle.load(pipe)  # noqa: S301 (from our own parent)
    sys.path[:] = message["path"]
    threading.Thread(
        target=_end_with_supervisor, args=(message["life"],), name="lifeline", daemon=True
    ).start()
    from turboapi._run import run_here

    return run_here(message["config"])


def _end_with_supervisor(life: int) -> None:
    with suppress(OSError):
        os.read(life, 1)
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _process.run_to_end(lambda: main(sys.argv), sys._getframe())
