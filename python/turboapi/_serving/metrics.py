"""Metrics: the memory that all workers count in, and the address where it is shown.

The memory belongs to the process that the user has started: the supervisor, or the one that serves
alone. A thread of it serves `--metrics`, and frees the slots of workers that have ended. The
workers get a descriptor of the memory (`Config.metrics_fd`), and each of their event loops claims
a slot of its own.

Where the supervisor is not ours (gunicorn's) no thread may run in it. It only has the memory and
the listening socket (`Shared`), and a thread of each worker answers for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import socket
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turboapi import _core
from turboapi._serving import addresses, metrics_data, sockets, upgrade
from turboapi._serving.status_page import PAGE

if TYPE_CHECKING:
    from collections.abc import Generator

    from turboapi.config import Config

_LEAST_SLOTS = 64
# Between two looks for workers that have ended, in seconds; the second where each worker looks.
_LOOK = 1.0
_SHARED_LOOK = 5.0
# For the thread's end, and in it for what is being answered.
_GRACE = 2.0
_LAST_ANSWERS = 1.0

_SECURITY = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; "
     b"script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)  # fmt: skip


def _slots(config: Config) -> int:
    """Return how many event loops there may be, with successors and those that are leaving."""
    if config.metrics_fd is not None:  # made already
        size = os.fstat(config.metrics_fd).st_size
        return size // _core.Stats.size(1, config.metrics_routes)
    return max(_LEAST_SLOTS, 4 * config.workers * config.threads)


def _map(config: Config) -> _core.Stats:
    assert config.metrics_fd is not None
    return _core.Stats(config.metrics_fd, _slots(config), config.metrics_routes)


class Counters:
    """What a process that serves counts; without `--metrics` nothing."""

    def __init__(self, config: Config) -> None:
        self.stats = None if config.metrics_fd is None else _map(config)

    def claim(self, thread: int) -> int:
        """Return a slot for an event loop; 0: there is none."""
        return 0 if self.stats is None else self.stats.claim(thread)

    def tell(self, slot: int, state: int) -> None:
        """Note what the loop is at: see `metrics_data`."""
        if slot and self.stats is not None:
            self.stats.set_state(slot, state)


@contextlib.contextmanager
def serving(config: Config) -> Generator[Config]:
    """Serve the metrics, if they are wanted, and give the configuration for the workers.

    Raises:
        BindError: can't listen there.
    """
    counts_only = config.metrics_fd is not None and config.metrics_listen_fd is None
    if config.metrics is None or counts_only:
        yield config
        return
    made = config.metrics_fd is None
    if made:
        bound = _bind(config)
        config = config.replace(metrics_fd=_memory(config))
        config = config.replace(metrics_listen_fd=bound.detach())
    assert config.metrics_listen_fd is not None
    listening = socket.socket(fileno=config.metrics_listen_fd)
    for descriptor in (config.metrics_listen_fd, config.metrics_fd):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    shown = _Shown(config, listening)
    shown.free(os.getpid())  # as which we served before `keep`
    if upgrade.is_pending():
        # Until we serve, the old program tells how it is with what clients get.
        upgrade.when_ready(shown.start)
    else:
        shown.start()
    upgrade.when_replaced(shown.leave)
    try:
        yield config
    finally:
        shown.stop()
        listening.close()
        if made and config.metrics_fd is not None:
            os.close(config.metrics_fd)
        if not shown.replaced and not upgrade.is_pending():
            _remove_file(config)


class Shared:
    """The memory and the listening socket, for workers that are forked from this process.

    They outlive the workers, so that nothing is lost, and nobody refused, when those are replaced.
    """

    _config: Config
    _memory: int
    _listening: socket.socket

    def __init__(self, config: Config, before: Shared | None = None) -> None:
        """Make them, or take what fits from the one `before`, which stays as it is.

        Raises:
            BindError: can't listen there.
        """
        if before is not None and before._config.metrics == config.metrics:
            self._listening = before._listening.dup()
        else:
            self._listening = _bind(config)
        self._memory = _memory(config)
        self._config = config.replace(metrics_fd=self._memory)

    @classmethod
    def taken(cls, config: Config, passed: str) -> Shared | None:
        """Return what the program before this one had, by its `pass_on`; None: it can't be used."""
        given = json.loads(passed)
        shared = cls.__new__(cls)
        try:
            shared._memory = given["memory"]
            shared._listening = socket.socket(fileno=given["socket"])
        except OSError:
            return None
        shared._config = config.replace(
            metrics=given["address"], metrics_routes=given["routes"], metrics_fd=shared._memory
        )
        return shared

    def fits(self, config: Config) -> bool:
        """Return whether it is what these settings want."""
        mine = self._config
        return (mine.metrics, mine.metrics_routes) == (config.metrics, config.metrics_routes)

    def pass_on(self) -> str:
        """Return what `taken` needs in the program that a child of this process runs."""
        for descriptor in (self._memory, self._listening.fileno()):
            os.set_inheritable(descriptor, True)
        given: dict[str, Any] = {
            "memory": self._memory,
            "socket": self._listening.fileno(),
            "address": self._config.metrics,
            "routes": self._config.metrics_routes,
        }
        return json.dumps(given)

    def counted_by(self, config: Config) -> Config:
        """Return the settings of a worker that counts in it."""
        return config.replace(
            metrics=self._config.metrics,
            metrics_routes=self._config.metrics_routes,
            metrics_fd=self._memory,
        )

    @contextlib.contextmanager
    def shown(self) -> Generator[None]:
        """Answer at the address, in a worker."""
        for descriptor in (self._memory, self._listening.fileno()):
            os.set_inheritable(descriptor, False)
        shown = _Shown(self._config, self._listening, is_shared=True)
        shown.start()
        try:
            yield
        finally:
            shown.stop()

    def close(self) -> None:
        """Free them; workers that have them still do."""
        os.close(self._memory)
        self._listening.close()

    def remove_file(self) -> None:
        """Remove the unix socket that it was, unless somebody else listens there; at the end."""
        self._listening.close()
        if self._config.metrics and (path := addresses.parse(self._config.metrics)["uds"]):
            _remove_unheard(path)


def keep(config: Config) -> None:
    """Let the program that this process runs next have the memory and the address."""
    for descriptor in (config.metrics_fd, config.metrics_listen_fd):
        if descriptor is not None:
            os.set_inheritable(descriptor, True)


def count_restart(config: Config) -> None:
    """Count a worker that has died."""
    if config.metrics_fd is not None:
        _map(config).count_restart()


def _memory(config: Config) -> int:
    """Return a descriptor of memory for the counters."""
    size = _core.Stats.size(_slots(config), config.metrics_routes)
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("turboapi-metrics")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _bind(config: Config) -> socket.socket:
    """Return a socket that listens at the address of the metrics; the caller closes it.

    Raises:
        BindError: the address is taken, not this machine's, or not allowed.
    """
    assert config.metrics is not None
    at = addresses.parse(config.metrics)
    path: str | None = at["uds"]
    family = socket.AF_UNIX
    if path is None:
        family = socket.AF_INET6 if ":" in at["host"] else socket.AF_INET
    if (inherited := _inherited(family, path, at)) is not None:
        return inherited
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if path is not None:
            _remove_unheard(path)
            bound.bind(path)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((at["host"], at["port"]))
        bound.listen(128)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE and path is None:
            raise sockets.BindError(
                f"{config.metrics} is in use{sockets.owner_of_port(at['port'])}. Stop what uses "
                "it, or choose another address with --metrics (TURBOAPI_METRICS)."
            ) from None
        raise sockets.BindError(
            f"Can't listen on {config.metrics} (--metrics, TURBOAPI_METRICS): "
            f"{error.strerror or error}."
        ) from None
    bound.setblocking(False)
    return bound


def _inherited(family: int, path: str | None, at: dict[str, Any]) -> socket.socket | None:
    """Return the socket of the program that this one is to replace, if it is of that address."""
    if path is not None:
        return upgrade.metrics_socket(family, path)
    with suppress(OSError):
        found = socket.getaddrinfo(at["host"], at["port"], family, socket.SOCK_STREAM)
        return upgrade.metrics_socket(family, found[0][4])
    return None


def _remove_file(config: Config) -> None:
    """Remove the unix socket of the metrics."""
    if config.metrics is not None and (path := addresses.parse(config.metrics)["uds"]):
        with suppress(OSError):
            Path(path).unlink()


def _remove_unheard(path: str) -> None:
    """Remove a unix socket that nobody listens at."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if not Path(path).is_socket():
            return
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


class _Shown:
    """The thread that serves the address."""

    def __init__(
        self, config: Config, listening: socket.socket, *, is_shared: bool = False
    ) -> None:
        """`is_shared`: other processes show the same counters at the same address."""
        self.replaced = False
        self._is_shared = is_shared
        self._config = config
        self._stats = _map(config)
        self._slots = _slots(config)
        self._listening = listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turboapi-metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def leave(self) -> None:
        """Let another program serve the address."""
        self.replaced = True
        self._tell_stop()

    def stop(self) -> None:
        """End it, soon."""
        if self._thread.ident is not None:
            self._tell_stop()
            self._thread.join(_GRACE)

    def _tell_stop(self) -> None:
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # closed already
                self._loop.call_soon_threadsafe(self._stop.set)

    def _run(self) -> None:
        selector = _core.Selector()
        try:
            loop = asyncio.SelectorEventLoop(selector)
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve(selector))
        finally:
            self._started.set()
            selector.close()

    async def _serve(self, selector: _core.Selector) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        selector.attach(self._loop)
        server = _core.Server(selector, _core.App(self._answer))
        try:
            server.listen(os.dup(self._listening.fileno()), self._is_shared)
            self._started.set()
            while not self._stop.is_set():
                self.free()
                with suppress(TimeoutError):
                    pause = _SHARED_LOOK if self._is_shared else _LOOK
                    await asyncio.wait_for(self._stop.wait(), pause)
        finally:
            done = asyncio.Event()
            server.shutdown(done.set)
            with suppress(TimeoutError):  # who asks just now gets an answer
                await asyncio.wait_for(done.wait(), _LAST_ANSWERS)
            server.close()

    def free(self, pid: int = 0) -> None:
        """Free the slots of processes that have ended, or of that one; what they counted stays."""
        for number in range(1, self._slots):
            if self._is_left(number, pid):
                with self._alone():
                    if self._is_left(number, pid):  # nobody was quicker
                        self._retire(number)

    def _is_left(self, number: int, pid: int) -> bool:
        of = self._stats.pid(number)
        return bool(of) and (of == pid or metrics_data.process_figures(of) is None)

    def _retire(self, number: int) -> None:
        found = self._stats.read(number) if self._is_shared else None
        if found is not None and found["state"] == metrics_data.READY:
            self._stats.count_restart()  # nobody else does: it was not told to end
        self._stats.retire(number)

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """Keep other processes from doing the same."""
        assert self._config.metrics_fd is not None
        fcntl.lockf(self._config.metrics_fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._config.metrics_fd, fcntl.LOCK_UN)

    def _snapshot(self) -> metrics_data.Snapshot:
        self.free()
        return metrics_data.Snapshot(map(self._stats.read, range(self._slots)))

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            status, kind, body = 405, "text/plain", "Only GET and HEAD.\n"
        else:
            status, kind, body = self._page(scope["path"])
        data = body.encode()
        fields = [
            (b"content-type", f"{kind}; charset=utf-8".encode()),
            (b"content-length", str(len(data)).encode()),
            *_SECURITY,
        ]
        if status == 307:
            fields.append((b"location", b"/-/status"))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": data})

    def _page(self, path: str) -> tuple[int, str, str]:
        match path:
            case "/metrics":
                kind = "text/plain; version=0.0.4"
                return 200, kind, metrics_data.prometheus(self._snapshot())
            case "/-/status":
                return 200, "text/html", PAGE
            case "/-/status.json":
                data = metrics_data.status(self._snapshot(), time.time())
                return 200, "application/json", json.dumps(data)
            case "/-/ready":
                # Where we are replaced, the new program is, and this is the last answer of ours.
                # In this order: it is noted before the event loops, in other threads, begin to end.
                ready = self._snapshot().is_ready() or self.replaced
                return (200, "text/plain", "ready\n") if ready else (503, "text/plain", "no\n")
            case "/-/live":
                live = self._snapshot().is_live(self._config.timeout_worker)
                return (200, "text/plain", "live\n") if live else (503, "text/plain", "no\n")
            case "/":
                return 307, "text/plain", ""
            case _:
                return 404, "text/plain", "There are /metrics, /-/status, /-/live and /-/ready.\n"
