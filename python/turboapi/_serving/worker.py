"""The program that a worker runs: it reads what to do, and serves.

`worker_process` is the supervisor's side of it, and tells what the pipes between them are for.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from turboapi._serving import process
from turboapi._serving.run import run_here
from turboapi._serving.worker_process import SHOW_STACKS

if TYPE_CHECKING:
    from turboapi.config import Config


_SPARE = 5.0  # seconds beyond those of a graceful stop


def main(arguments: list[str]) -> int:
    """Serve as the message in the pipe `arguments[1]` says and return the exit code."""
    with open(int(arguments[1]), "rb") as pipe:  # noqa: PTH123
        message = pickle.load(pipe)  # noqa: S301 (from our own parent)
    sys.path[:] = message["path"]
    return serve(message)


def serve(message: dict[str, Any], app: Any = None) -> int:
    """Serve as a message says and return the exit code; `app`: imported already, or None."""
    config: Config = message["config"]
    # They were inherited by us, and are nothing to the application's own children.
    served = [each.fd for each in config.addresses()]
    for descriptor in (
        *served,
        config.ready_fd,
        config.metrics_fd,
        message["life"],
        message["stacks"],
    ):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    process.set_name(config, "worker")
    faulthandler.register(SHOW_STACKS, file=message["stacks"], all_threads=True)
    threading.Thread(
        target=_end_with_supervisor,
        args=(message["life"], config.timeout_graceful_shutdown),
        name="lifeline",
        daemon=True,
    ).start()
    return run_here(config, app)


def _end_with_supervisor(life: int, grace: float) -> None:
    """Stop this process when the pipe to its supervisor breaks; `grace`: seconds for that."""
    with suppress(OSError):
        os.read(life, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        # Nobody else will ever stop it: a signal that was missed while it started, or a stop that
        # does not come to its end, must not leave a server behind.
        while grace > 0:
            time.sleep(grace + _SPARE)
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    process.run_to_end(lambda: main(sys.argv), sys._getframe())
