"""`--preload`: the application is imported once, and workers are forked from the process that did.

The supervisor never runs the application's code, and may have threads of its own. So it is another
process that imports the application, the template: it has no event loop, serves nobody, and its
only work from then on is to fork. What the import made is shared by all workers, page by page, as
long as nobody writes to it. SIGHUP starts another template with what is there to import then; the
old one stays until its workers have ended, as it is their parent.

Here is the program of the template, and of the workers that come from it; `templates` is the
supervisor's side. Between them is a socket: requests are pickled, with the descriptors that the
worker gets; answers are lines.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from turboapi._serving import log, process, run, worker
from turboapi._serving.worker_process import EXIT_NO_APP

if TYPE_CHECKING:
    from turboapi.config import Config

# Before a request: how many bytes it has.
LENGTH = struct.Struct("!I")
MOST_DESCRIPTORS = 64

# They are for workers, which hear of them from the supervisor.
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    """Import and fork as the socket `arguments[1]` says; in a worker, serve."""
    link = socket.socket(fileno=int(arguments[1]))
    link.set_inheritable(False)
    first = _receive(link)
    if first is None:
        return 0
    config: Config = first[0]["config"]
    process.set_name(config, "template")
    sys.path[:] = first[0]["path"]
    log.configure(config)
    app = run.load(config)
    if app is None:
        return EXIT_NO_APP
    importlib.import_module("turboapi._serving.server")  # lazy: here, so that workers share it, too

    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    return _Template(link, config).serve(app)


class _Template:
    """The process after the import."""

    def __init__(self, link: socket.socket, config: Config) -> None:
        self._link = link
        self._config = config
        self._wake, self._wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_write, False)

    def serve(self, app: Any) -> int:
        """Fork workers until the supervisor is gone; in each of them, return its exit code."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._tell_threads()
        if self._config.gc_freeze:
            # Else the collector would write to all that workers are to share.
            gc.collect()
            gc.freeze()
        self._say("ready")
        with selectors.DefaultSelector() as selector:
            selector.register(self._link, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                self._reap()
                if self._link in ready:
                    found = _receive(self._link)
                    if found is None:
                        os._exit(0)  # what the import left for the end is for the workers
                    if self._fork(*found):
                        break
        return worker.serve(self._message, app)

    def _fork(self, message: dict[str, Any], given: list[int]) -> bool:
        """Return True in a new worker."""
        # A signal that comes early waits until the worker can end in order.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._say(f"failed {error}")
            _close(given)
            return False
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._say(f"forked {pid}")
            _close(given)
            return False
        with suppress(OSError):
            os.setpgid(0, 0)  # out of the terminal's reach
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._link.close()
        os.close(self._wake)
        os.close(self._wake_write)
        process.take_signals()
        self._message = _with_descriptors(message, given)
        return True

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._wake, 512):
                pass
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._say(f"ended {found[0]} {os.waitstatus_to_exitcode(found[1])}")

    def _say(self, line: str) -> None:
        with suppress(OSError):  # the supervisor is gone, as the next look at the link tells
            self._link.sendall(line.encode() + b"\n")

    def _tell_threads(self) -> None:
        others = [each for each in threading.enumerate() if each is not threading.current_thread()]
        if others:
            log.server_logger.warning(
                "preload: the import has started threads, which workers do not have: %s. Start "
                "them in the lifespan, or with os.register_at_fork(after_in_child=...)",
                ", ".join(each.name for each in others),
            )


def _receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return a request and its descriptors; None: there will be none."""
    given: list[int] = []
    data = b""
    size = LENGTH.size
    while len(data) < size:
        try:
            piece, fds, _flags, _address = socket.recv_fds(link, size - len(data), MOST_DESCRIPTORS)
        except ConnectionResetError:  # it was killed, and had not read what we said
            return None
        given += fds
        if not piece:
            return None
        data += piece
        if len(data) == LENGTH.size and size == LENGTH.size:
            size += LENGTH.unpack(data)[0]
    return pickle.loads(data[LENGTH.size :]), given  # noqa: S301 (from our own supervisor)


def _with_descriptors(message: dict[str, Any], given: list[int]) -> dict[str, Any]:
    """Return a worker's message with the numbers that descriptors have here."""
    for descriptor in given:
        os.set_inheritable(descriptor, False)
    ready, life, stacks, *rest = given
    config: Config = message["config"]
    shared = rest.pop(0) if config.metrics_fd is not None else None
    config = config.replace(
        uds=None,
        uds_permissions=None,
        fd=None,
        bind=[f"fd://{each}" for each in rest],
        ready_fd=ready,
        metrics_fd=shared,
    )
    return {**message, "config": config, "life": life, "stacks": stacks}


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


if __name__ == "__main__":
    process.run_to_end(lambda: main(sys.argv), sys._getframe())
