"""A server inside of a program, by uvicorn's names: `turboapi.Config` and `turboapi.Server`.

    config = turboapi.Config(app, port=5000, log_level="info")
    server = turboapi.Server(config)
    await server.serve()                    # in the running loop, beside what else it runs

It serves in this process until a signal comes or `server.should_exit` is set. Workers and reloading
are `turboapi.run()`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Generator, Sequence
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from turboapi import _core
from turboapi._serving import importer, log, metrics, other_names, run
from turboapi._serving import sockets as listening
from turboapi._serving.access import AccessLog
from turboapi._serving.server import LoopThread, as_asgi, new_loop
from turboapi.config import Config as Settings

logger = logging.getLogger("turboapi.server")

# Between two looks whether there were as many requests as there may be, in seconds.
_LOOK = 0.1

# The selector that servers of a loop share, and how many there are. Of loops of ours, and of those
# that `Server.run` makes, it is what the loop waits with.
_Shared = tuple[_core.Selector, int]
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()


class Config:
    """What a `Server` serves, and how.

    Settings have the names of `turboapi.config.Config`, whose defaults are the only ones, or those
    of uvicorn's: `reload_dirs`, `limit_max_requests`, `timeout_keep_alive`, ... All can be read and
    set as attributes, under either name. Logging is set up at once, unless `log_config` is None.

    Attributes:
        app: what was given: the application, its import string, or a factory.
        settings: the checked settings.
        loaded_app: the application, after `load`.

    Raises:
        ConfigError: a setting can't be used.
    """

    app: Any
    settings: Settings
    loaded_app: Any

    def __init__(
        self, app: Any, host: str | None = None, port: int | None = None, **settings: Any
    ) -> None:
        if host is not None:
            settings["host"] = host
        if port is not None:
            settings["port"] = port
        found = run.settings_of(app, settings)
        log.configure(found)
        vars(self).update(app=app, settings=found, loaded_app=None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.settings, other_names.RENAMED.get(name, name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).__annotations__:
            vars(self)[name] = value
        else:
            name = other_names.RENAMED.get(name, name)
            vars(self)["settings"] = self.settings.replace(**{name: value})

    @property
    def loaded(self) -> bool:
        """Whether `load` was called."""
        return self.loaded_app is not None

    def load(self) -> None:
        """Import the application, or make it by its factory, if that is to be done.

        Raises:
            AppError: there is none.
        """
        if self.loaded:
            return
        if isinstance(self.app, str):
            self.loaded_app = importer.load(self.settings)
        else:
            self.loaded_app = run.made_of(self.app, self.settings)

    def bind_socket(self) -> socket.socket:
        """Return a socket for the address, which `Server.serve` takes; the caller closes it.

        Raises:
            BindError: can't listen there.
        """
        return listening.bind(self.settings.addresses()[0])


class Server:
    """Serves one application in this process, in one event loop.

    Attributes:
        config: what was given.
        servers: what listens, while it does: `server.servers[0].sockets[0].getsockname()`.
    """

    # Whether other processes serve the same, and may have the port of `redirect_http` already.
    _has_siblings = False

    def __init__(self, config: Config) -> None:
        self.config = config
        self.servers: list[Listening] = []
        self._should_exit = self._force_exit = False
        self._captured: list[int] = []
        self._thread: _Thread | None = None
        self._serving: asyncio.Task[int] | None = None

    @property
    def started(self) -> bool:
        """Whether it listens, or did."""
        return self._thread is not None and self._thread.ready.is_set()

    @property
    def should_exit(self) -> bool:
        """Whether it is to end, once what is in flight is done; may be set from any thread."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        first = value and not self._should_exit
        self._should_exit = value
        if first and self._thread is not None:
            self._thread.stop(at_once=False)

    @property
    def force_exit(self) -> bool:
        """Whether it is to end at once; may be set from any thread."""
        return self._force_exit

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        first = value and not self._force_exit
        self._force_exit = value
        if first:
            self.should_exit = True
            if self._thread is not None:
                self._thread.stop()

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve until told to end; in an event loop that is made for it.

        Raises:
            BindError: can't listen there.
            SystemExit: the application does not start (3).
        """
        selector = _core.Selector()
        kind = self.config.settings.loop
        try:
            with asyncio.Runner(loop_factory=lambda: new_loop(kind, selector)) as runner:
                runner.run(self.serve(sockets))
        finally:
            selector.close()

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve until told to end; in the running event loop.

        In the main thread SIGINT and SIGTERM end it; afterwards they have the effect that they have
        without it. When it is cancelled, it ends at once.

        Args:
            sockets: what to listen on instead of the configuration's address; closed at the end.

        Raises:
            BindError: can't listen there.
            SystemExit: the application does not start (3).
        """
        with self.capture_signals():
            try:
                await self.startup(sockets)
                await self.main_loop()
            finally:
                await self.shutdown(sockets)

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Start the application, and listen; `serve` calls it, and subclasses may extend it."""
        self.config.load()
        settings = run.check_tls(self.config.settings, has_siblings=self._has_siblings)
        for name, none in (("workers", 1), ("reload", False), ("threads", 1)):
            if getattr(settings, name) != none:
                logger.warning("%s: a Server is one process with one loop", name)
        self._thread = thread = _Thread(self, settings, sockets)
        self._serving = asyncio.create_task(thread.serve_all())
        ready = asyncio.create_task(thread.listens.wait())
        try:
            await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._serving.done() and (code := self._serving.result()):
            sys.exit(code)

    async def main_loop(self) -> None:
        """Wait until it is to end; `serve` calls it."""
        if self._serving is None or self._thread is None:
            return
        most = self._thread.most_requests
        while not self._serving.done() and not self._should_exit:
            stopped = asyncio.create_task(self._thread.stopped.wait())
            try:
                await asyncio.wait(
                    {self._serving, stopped},
                    timeout=_LOOK if most else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                stopped.cancel()
            if most and self._thread.requests() >= most:
                logger.warning("Maximum request limit of %d exceeded: ending", most)
                self.should_exit = True
        if self._serving.done():
            self._serving.result()

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Finish what is in flight, and end the application; `serve` calls it."""
        task = self._serving
        if task is not None and not task.done():
            if self._should_exit:
                await task
            else:  # we were cancelled
                task.cancel()
                await asyncio.wait({task})
        self.servers = []
        for each in sockets or ():
            each.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: the first ends it, a second SIGINT at once."""
        self._captured.append(sig)
        if self._should_exit and sig == signal.SIGINT:
            self.force_exit = True
        else:
            self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle SIGINT and SIGTERM by `handle_exit`, and let them have their effect afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        for sig in reversed(self._captured):
            signal.raise_signal(sig)


class Listening:
    """What of `asyncio.Server` is asked of those in `Server.servers`.

    Attributes:
        sockets: the sockets that it listens on.
    """

    def __init__(self, names: list[Listener]) -> None:
        self.sockets = names


class Listener:
    """A socket that belongs to the server: where it listens is all that can be asked.

    Attributes:
        family: of the address.
    """

    def __init__(self, bound: socket.socket) -> None:
        self.family = bound.family
        self._name = bound.getsockname()

    def getsockname(self) -> Any:
        """Return the address, as that of a socket."""
        return self._name


class _Thread(LoopThread):
    """The server's part of a loop that others have made, and of a program that is not ours."""

    def __init__(
        self, owner: Server, config: Settings, given: Sequence[socket.socket] | None
    ) -> None:
        app = owner.config.loaded_app
        if config.interface == "auto":
            config = config.replace(interface=importer.detect_interface(app))
        # Bound when all else is right: `serve_all` closes them.
        bound = listening.bind_all(config) if given is None else [each.dup() for each in given]
        for each in bound:
            each.setblocking(False)
        self.listens, self.stopped = asyncio.Event(), asyncio.Event()
        self.most_requests = config.max_requests
        self._owner = owner
        self._given = given is not None
        self._files = config
        super().__init__(
            as_asgi(app, config), config, bound, followers=[], access=AccessLog(config)
        )

    async def serve_all(self) -> int:
        """Serve to the end, with all that a process has besides, and return the exit code."""
        self._access.open()
        try:
            with metrics.serving(self._config) as self._config, _selector() as selector:
                self._counters = metrics.Counters(self._config)  # in the memory that is shown
                return await self.serve(selector)
        finally:
            self._access.close()
            listening.close(self._bound)
            listening.remove_files(self._files)

    def requests(self) -> int:
        """Return how many there have been."""
        return self._requests()

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave signals to the owner, who may have been told to end already."""
        if self._owner.should_exit:
            self._stop_here()

    def _stop_here(self, at_once: bool = True) -> None:
        super()._stop_here(at_once)
        self.stopped.set()

    def _is_shared(self) -> bool:
        return self._given  # with whom, nobody knows

    def _listen(self, server: _core.Server) -> None:
        self._owner.servers = [Listening([Listener(each) for each in self._bound])]
        super()._listen(server)

    def _tell_ready(self, address: str) -> None:
        logger.info("Listening on %s", address)
        self.listens.set()

    def _tell_stopping(self) -> None:
        """Tell nobody: it is not the program that ends."""


@contextlib.contextmanager
def _selector() -> Generator[_core.Selector]:
    """Give the running loop's selector of ours: its own one, or one whose descriptor it watches."""
    loop: Any = asyncio.get_running_loop()
    own = getattr(loop, "_selector", None)
    if isinstance(own, _core.Selector):
        yield own
        return
    selector, count = _shared.get(loop) or (_core.Selector(), 0)
    _shared[loop] = (selector, count + 1)
    try:
        yield selector
    finally:
        selector, count = _shared.pop(loop)
        if count > 1:
            _shared[loop] = (selector, count - 1)
        else:
            selector.close()


__all__ = ["Config", "Server"]
