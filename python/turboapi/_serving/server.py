"""One process that serves: event loops, listeners, lifespan and signals round `_core.Server`.

`serve(app, config)` blocks until a signal ends it.  With `config.threads` above one (free-threaded
Python) each thread has a loop, a listener and a lifespan of its own; the application is shared.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from turboapi import _core
from turboapi._fastapi_bridge import native_app
from turboapi._serving import (
    banner,
    metrics,
    metrics_data,
    notify,
    pid_file,
    process,
    request_encoding,
    sockets,
    static_paths,
    tls,
    twins,
    upgrade,
)
from turboapi._serving.access import AccessLog
from turboapi._serving.freezer import Freezer
from turboapi._serving.heartbeat import Heartbeat
from turboapi._serving.lifespan import Lifespan, LifespanError
from turboapi._serving.process import EXIT_FORCED
from turboapi._serving.proxy import ProxyHeaders
from turboapi._serving.retirement import Retirement
from turboapi._serving.should_exit import ShouldExit
from turboapi._serving.signals import ONE_STOP, is_ctrl_c
from turboapi._serving.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from turboapi._serving.handover import Handover
    from turboapi.config import Config

logger = logging.getLogger("turboapi.server")
access_logger = logging.getLogger("turboapi.access")

# The application does not start (as for one that can't be found: to try again is of no use).
EXIT_STARTUP = 3

_CANCELLED = "Task cancelled, timeout graceful shutdown exceeded"
# For handlers that were cancelled to end, and threads to be seen ending.
_CANCEL_GRACE = 1.0
# Of the loop, from the last stream to the lifespan's shutdown.
_TURNS_OF_CLEANUP = 5
# What anyio's limiter has at first, and what "unlimited" means here.
_ANYIO_THREADS = 40
_MOST_THREADS = 4096


def serve(app: Any, config: Config, handover: Handover | None = None) -> int:
    """Serve an application until SIGINT or SIGTERM and return the exit code.

    The first signal stops accepting and lets requests in flight finish, for at most
    `config.timeout_graceful_shutdown` seconds; a second one ends everything at once.

    Args:
        app: an ASGI application, one of ours, or with `config.interface` "wsgi" a WSGI one.
        config: the settings; the socket in `config.fd` becomes the server's.
        handover: what SIGHUP begins; without one it ends the server.

    Raises:
        BindError: can't listen there.
    """
    app = as_asgi(app, config)
    listening = _listening_sockets(config)
    heartbeat = Heartbeat(config.ready_fd, config.timeout_worker)
    freezer = Freezer(config.gc_freeze, config.gc_threshold, more=config.preload)
    access = AccessLog(config)
    access.open()
    counters = metrics.Counters(config)
    try:
        if len(listening) == 1:
            main = LoopThread(
                app,
                config,
                listening[0],
                followers=[],
                heartbeat=heartbeat,
                freezer=freezer,
                access=access,
                counters=counters,
            )
            main.handover = handover
            return main.run()
        return _serve_threads(
            app, config, listening, heartbeat, freezer, access, counters, handover
        )
    finally:
        access.close()
        freezer.unfreeze()
        heartbeat.stop()
        for each in listening:
            sockets.close(each)


def as_asgi(app: Any, config: Config) -> Any:
    """Return what serves an application whose interface is known: itself, or an adapter."""
    if config.interface != "wsgi":
        return app
    from turboapi._serving.wsgi import WSGIAdapter  # lazy: most applications are ASGI

    return WSGIAdapter(app, threads=config.thread_pool, multiprocess=config.workers > 1)


def new_loop(kind: str, selector: _core.Selector) -> asyncio.AbstractEventLoop:
    """Return an event loop of the kind that the setting `loop` names, for this selector."""
    if kind == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    if kind == "turboapi":
        from turboapi.loop import new_event_loop  # lazy: not for other loops

        return new_event_loop(selector)
    return asyncio.SelectorEventLoop(selector)


class LoopThread:
    """An event loop and what it serves; `run` is called in the thread that it belongs to.

    In a loop that runs already, `serve` is awaited instead.
    """

    def __init__(
        self,
        app: Any,
        config: Config,
        bound: list[socket.socket],
        *,
        followers: list[LoopThread] | None = None,
        heartbeat: Heartbeat | None = None,
        watchdog: Watchdog | None = None,
        freezer: Freezer | None = None,
        access: AccessLog | None = None,
        counters: metrics.Counters | None = None,
        number: int = 0,
    ) -> None:
        """`followers`: None for a thread that is told by another one what to do.

        The one that has them (maybe none) takes signals, passes them on, and tells the supervisor
        that we are ready.
        """
        self.exit_code: int | None = None
        self.ready = threading.Event()
        self.server: _core.Server | None = None
        self.handover: Handover | None = None
        self._app = app
        self._config = config
        self._bound = bound
        self._followers = followers
        self._heartbeat = heartbeat or Heartbeat(None, 0)
        self._watchdog = watchdog or Watchdog(config.timeout_loop_stall)
        self._freezer = freezer or Freezer(False)
        self._access = access or AccessLog(config)
        self._counters = counters or metrics.Counters(config)
        self._number = number
        self._slot = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._force: asyncio.Event | None = None
        self._hands_over = False
        self._stopped_by = 0  # the first signal
        self._stopped_at = 0.0
        self._should_exit: ShouldExit | None = None

    def run(self) -> int:
        """Serve until `stop` is called or a signal comes and return the exit code."""
        selector = _core.Selector()
        try:
            kind = self._config.loop
            with asyncio.Runner(loop_factory=lambda: new_loop(kind, selector)) as runner:
                self.exit_code = self._run(runner, selector)
        except BaseException:
            self.exit_code = EXIT_FORCED
            raise
        finally:
            selector.close()
            self._loop = None
            self.ready.set()
        return self.exit_code

    def _run(self, runner: asyncio.Runner, selector: _core.Selector) -> int:
        """Run the loop to the end of `serve`.

        asyncio lets a KeyboardInterrupt out of any Task end the loop. Where it can't be Ctrl+C it
        is an error of that Task, as of a request's own; the loop goes on where it stood.
        """
        loop = runner.get_loop()
        serving = loop.create_task(self.serve(selector))
        try:
            return runner.run(_finish(serving))
        except KeyboardInterrupt as error:
            interrupt = error
        while not is_ctrl_c(interrupt) and not serving.done():
            logger.error("KeyboardInterrupt in a task", exc_info=interrupt)
            try:
                return loop.run_until_complete(serving)
            except KeyboardInterrupt as error:
                interrupt = error
        raise interrupt

    def stop(self, *, at_once: bool = True) -> None:
        """End it gracefully, a second time at once (unless it should not); from any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(self._stop_here, at_once)

    def _stop_here(self, at_once: bool = True) -> None:
        assert self._stop is not None
        assert self._force is not None
        if self._stop.is_set() and at_once:
            self._force.set()
        self._stop.set()

    async def serve(self, selector: _core.Selector) -> int:
        """Serve in the running loop until told to stop and return the exit code.

        Raises:
            BindError: can't listen there.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._stop, self._force = asyncio.Event(), asyncio.Event()
        selector.attach(loop)
        if self._followers is not None:
            self._watch_signals(loop)
        self._slot = self._counters.claim(self._number)
        lifespan = Lifespan(self._app, self._config.lifespan)
        starting = asyncio.create_task(lifespan.startup())
        try:
            await self._unless_stopped(starting)
        except LifespanError:
            return EXIT_STARTUP
        if not starting.done():  # a signal came first
            starting.cancel()
            await self._unless_forced(lifespan.abandon())
            return process.code_of_stop(self._stopped_by)
        if self._stop.is_set():
            await self._stop_lifespan(lifespan)
            return process.code_of_stop(self._stopped_by)
        try:
            code = await self._serve_requests(selector, lifespan.state)
        except (Exception, asyncio.CancelledError):
            await lifespan.shutdown()
            raise
        if code != 0:
            lifespan.forget()
            return code
        return await self._stop_lifespan(lifespan)

    async def _stop_lifespan(self, lifespan: Lifespan) -> int:
        assert self._force is not None
        stopping = asyncio.create_task(lifespan.shutdown())
        forced = asyncio.create_task(self._force.wait())
        try:
            await asyncio.wait({stopping, forced}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                stopping.result()
                return 0
            logger.warning("Forced to end: cut off the application's shutdown")
            return EXIT_FORCED
        except LifespanError:
            return EXIT_STARTUP
        finally:
            stopping.cancel()
            forced.cancel()

    async def _unless_stopped(self, task: asyncio.Task[None]) -> None:
        assert self._stop is not None
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if task.done():
            task.result()

    async def _unless_forced(self, end: Coroutine[Any, Any, None]) -> None:
        assert self._force is not None
        tasks = [asyncio.create_task(each) for each in (end, self._force.wait())]
        timeout = self._config.timeout_graceful_shutdown or None
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for each in tasks:
            each.cancel()

    async def _serve_requests(self, selector: _core.Selector, state: dict[str, Any]) -> int:
        assert self._stop is not None
        self.server = server = _make_server(
            selector, self._app, self._config, state, self._access, self._counters, self._slot
        )
        if self._config.proxy_protocol:
            server.use_proxy_protocol(ProxyHeaders(self._config.forwarded_allow_ips).trusts)
        renewing = redirects = None
        try:
            renewing = self._use_tls(server)
            self._freezer.freeze()
            # Now, not before: what is accepted is served.
            redirects = self._redirect(selector, self._port())
            address = sockets.describe_all(self._bound, self._config.scheme())
            self._listen(server)
            self._counters.tell(self._slot, metrics_data.READY)
            self.ready.set()
            if self._followers is None:
                self._heartbeat.join(asyncio.get_running_loop())
            else:
                self._tell_ready(address)
            with self._watchdog.watching(selector):
                await self._stop.wait()
                return await self._shut_down(server)
        finally:
            if renewing is not None:
                renewing.cancel()
            if redirects is not None:
                redirects.close()
            server.close()

    def _listen(self, server: _core.Server) -> None:
        for each in self._bound:
            sockets.listen(each, self._config.backlog)
            server.listen(each.fileno(), self._is_shared())
            each.detach()  # it is the server's now

    def _port(self) -> int:
        ports = [each.getsockname()[1] for each in self._bound if each.family != socket.AF_UNIX]
        return int(ports[0]) if ports else 0

    def _redirect(self, selector: _core.Selector, port: int) -> _core.Server | None:
        """Serve the port that sends clients here from http, if there is to be one."""
        if self._config.redirect_http is None or self._followers is None:
            return None
        from turboapi._serving import redirect  # lazy: few want it

        return redirect.serve(selector, self._config, redirect.bind(self._config), port)

    def _use_tls(self, server: _core.Server) -> asyncio.Task[None] | None:
        """Let the server encrypt, if it is to; return what looks for new certificates."""
        # Before the files are read: what changes from now on is seen.
        renewal = tls.Renewal(self._config, server.use_tls)
        made = tls.make_at_start(self._config)
        if made is None:
            return None
        server.use_tls(made)
        if self._followers is not None:
            tls.tell_ends(made, self._config)
        return asyncio.create_task(renewal.run())

    def _is_shared(self) -> bool:
        """Return whether other threads or processes accept from our socket."""
        return self._config.threads > 1 or self._config.ready_fd is not None

    def _tell_ready(self, address: str) -> None:
        """Tell the supervisor, or without one the log."""
        loop = asyncio.get_running_loop()
        if self._config.announce:
            banner.show(self._config, self._app, address)
        if self._config.ready_fd is not None:
            self._heartbeat.start(loop)
            Retirement(self._config, self._requests, self._heartbeat.retire).start(loop)
        else:
            logger.info("Listening on %s (process %d)", address, os.getpid())
            if upgrade.is_pending():
                pid_file.write(self._config)
                upgrade.tell_ready()
            notify.ready(f"Listening on {address}")
            self._keep_telling(loop)

    def _tell_stopping(self) -> None:
        """Tell the service manager, unless the supervisor does, or somebody goes on for us."""
        if self._config.ready_fd is None and self._followers is not None and not self._hands_over:
            notify.stopping()

    def _requests(self) -> int:
        """Return how many requests there have been on all loops of the process."""
        servers = [each.server for each in (self, *(self._followers or ()))]
        return sum(each.requests for each in servers if each is not None)

    def _keep_telling(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell the service manager that the loop goes on, if it wants to know."""
        if pause := notify.interval():
            notify.alive()
            loop.call_later(pause, self._keep_telling, loop)

    async def _shut_down(self, server: _core.Server) -> int:
        assert self._force is not None
        logger.info("Shutting down")
        self._counters.tell(self._slot, metrics_data.DRAINING)
        self._tell_stopping()
        if waits_for := _pending(server):
            logger.info(
                "Waiting for %s to end (Ctrl+C again, or a second signal, ends at once)", waits_for
            )
        streams = server.pending()[1]
        done = asyncio.Event()
        server.shutdown(done.set, self._config.timeout_stream_shutdown or None)
        waits = [asyncio.create_task(each.wait()) for each in (done, self._force)]
        try:
            timeout = self._config.timeout_graceful_shutdown or None
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if done.is_set():
                if streams:
                    await _close_generators()
                return 0
            if not self._force.is_set():
                logger.error(
                    "Cancel %d running task(s), timeout graceful shutdown exceeded: %s",
                    server.tasks,
                    _pending(server),
                )
                server.cancel(_CANCELLED)
                await asyncio.wait(
                    waits, timeout=_CANCEL_GRACE, return_when=asyncio.FIRST_COMPLETED
                )
            if not self._force.is_set():
                return 0
            logger.warning("Forced to end: cut off %s", _pending(server) or "nothing")
            return EXIT_FORCED
        finally:
            for each in waits:
                each.cancel()

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._should_exit = ShouldExit()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
            self._should_exit.take(number)
        # One that came before raised SystemExit, which a finalizer or an import may have swallowed.
        if (came := process.stopped_by()) is not None:
            self._on_signal(came)
        # Of a program that calls us SIGHUP is ours, unless it is to be ignored (nohup).
        if self.handover is not None or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            process.look_for_terminal()
            _handle_unless_taken(loop, signal.SIGHUP, self._on_hangup)
        if self.handover is not None:
            _handle_unless_taken(loop, signal.SIGUSR2, self._on_upgrade)

    def _on_upgrade(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._stop is not None
        assert self.handover is not None
        if not self._stop.is_set() and self.server is not None:
            self.handover.start_anew(loop, self._on_program)

    def _on_program(self) -> None:
        self._hands_over = True
        self._tell_libraries()
        self._on_signal(signal.SIGUSR2)

    def _on_signal(self, number: int) -> None:
        # What is in flight at a handover goes on: it is the successor that is told to end.
        now = time.monotonic()
        once_more = bool(self._stopped_by)
        if once_more and now < self._stopped_at + ONE_STOP:
            return
        if not once_more:
            self._stopped_by, self._stopped_at = number, now
        if self.handover is not None:
            self.handover.stop()
            assert self._stop is not None
            if self._stop.is_set() and not once_more:
                return
        self._stop_all()

    def _stop_all(self) -> None:
        self._stop_here()
        for each in self._followers or ():
            each.stop()

    def _on_hangup(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._stop is not None
        if self._stop.is_set():
            return
        if self.handover is not None and not process.terminal_is_gone():
            if self.server is not None:  # else it starts with what is new
                notify.reloading()
                self.handover.begin(loop, self._on_successor)
            return
        why = "it can't be started anew" if self.handover is None else "the terminal is gone"
        logger.info("SIGHUP: %s", why)
        self._tell_libraries()
        self._on_signal(signal.SIGHUP)

    def _on_successor(self) -> None:
        self._hands_over = True
        self._tell_libraries()
        self._stop_all()

    def _tell_libraries(self) -> None:
        if self._should_exit is not None and not self._should_exit.should_exit:
            self._should_exit.handle_exit(signal.SIGTERM, None)


def _handle_unless_taken(
    loop: asyncio.AbstractEventLoop,
    number: signal.Signals,
    handle: Callable[[asyncio.AbstractEventLoop], None],
) -> None:
    """Handle a signal whose meaning is ours only as long as the application gives it none.

    It may have done so when it was imported, or do so while it starts or serves: loops learn of a
    signal by the wake-up descriptor, even if theirs is no longer its handler.
    """
    found = signal.getsignal(number)
    if callable(found) and found not in (process.on_hangup, process.on_upgrade):
        logger.info("%s is the application's, which has a handler for it", number.name)
        return

    def handle_ours() -> None:
        if signal.getsignal(number) == ours:
            handle(loop)

    loop.add_signal_handler(number, handle_ours)
    ours = signal.getsignal(number)


async def _close_generators() -> None:
    """Let generators of streams that ended between two chunks clean up.

    Tracebacks of their cancelled tasks may hold them in cycles; the loop closes one that was
    dropped in a task. What the lifespan's shutdown closes must still be there for them.
    """
    gc.collect()
    for _ in range(_TURNS_OF_CLEANUP):
        await asyncio.sleep(0)


def _pending(server: _core.Server) -> str:
    """Return what is in flight, in words."""
    names = ("request", "stream", "WebSocket", "background task")
    parts = [
        f"{count} {name}{'' if count == 1 else 's'}"
        for count, name in zip(server.pending(), names, strict=True)
        if count
    ]
    return " and ".join([*([", ".join(parts[:-1])] if parts[1:] else []), *parts[-1:]])


async def _finish(task: asyncio.Task[int]) -> int:
    return await task


def _make_server(
    selector: _core.Selector,
    app: Any,
    config: Config,
    state: dict[str, Any],
    access: AccessLog,
    counters: metrics.Counters,
    slot: int,
) -> _core.Server:
    proxy = None
    if config.proxy_headers and config.forwarded_allow_ips:
        proxy = ProxyHeaders(config.forwarded_allow_ips)
    access_log = _access_log(config)
    more = config.more_headers()
    given = {name for name, _ in more}
    return _core.Server(
        selector,
        native_app(app, compile_fastapi=config.interface != "asgi"),
        limits=config.http_limits(),
        server_header="turboapi" if config.server_header and b"server" not in given else None,
        date_header=config.date_header and b"date" not in given,
        root_path=config.root_path,
        state=state,
        access_log=access_log,
        access_writer=access.writer() if access_log is not None else None,
        stats=counters.stats if slot else None,
        stats_slot=slot,
        request_ids=_request_ids(config),
        logger=logger,
        log_level=logger.getEffectiveLevel(),
        threads=_thread_limit(config),
        # WSGI: what is sent to a client that has gone raises OSError.
        spec_version="2.4" if config.interface == "wsgi" else "2.3",
        ws_deflate=config.ws_per_message_deflate,
        http2=config.http2,
        proxy=proxy,
        max_requests=config.limit_concurrency,
        more_headers=more,
        compress=config.compression(),
        front=_front(app, config),
    )


def _front(app: Any, config: Config) -> tuple[Any, tuple[str, ...], Any] | None:
    """Return what is before the application: see `_core.Server`; None: nothing."""
    files, prefixes = static_paths.front(config) or (None, ())
    encoded = request_encoding.encoded(app, config)
    if files is None and encoded is None:
        return None
    if encoded is None:
        return files, prefixes, None
    from turboapi.middleware.compress import packs_itself  # lazy: only with these

    return files, prefixes, _core.App(encoded, packs=packs_itself(app))


def _request_ids(config: Config) -> tuple[Any, Any, Any] | None:
    """Return what names requests: see `_core.Server`; None: nothing does."""
    header, response = config.request_id_header, config.request_id_response
    if not (config.request_id or header or response):
        return None
    return (
        header.lower().encode() if header else None,
        ProxyHeaders(config.forwarded_allow_ips).trusts if config.forwarded_allow_ips else None,
        response.lower().encode() if response else None,
    )


def _thread_limit(config: Config) -> int:
    """Return the setting, unless start-up code has changed anyio's limiter, as one does under
    FastAPI.
    """
    tokens = anyio.to_thread.current_default_thread_limiter().total_tokens
    return config.thread_pool if tokens == _ANYIO_THREADS else int(min(tokens, _MOST_THREADS))


def _access_log(config: Config) -> Callable[..., None] | None:
    """Return what is called for a line; also where nobody hears it yet, as that may change."""
    if twins.is_paired(access_logger):
        return access_logger.info
    if not config.access_log or not access_logger.isEnabledFor(logging.INFO):
        return None
    return access_logger.info if access_logger.hasHandlers() else None


def _listening_sockets(config: Config) -> list[list[socket.socket]]:
    """Those of each thread: descriptors of the same sockets."""
    first = sockets.bind_all(config)
    for each in config.addresses():
        if each.fd is not None:
            # `bind` made a copy, and this one was given to us.
            os.close(each.fd)
    for bound in first:
        bound.setblocking(False)
    others = range(1, config.threads)
    return [first, *([bound.dup() for bound in first] for _ in others)]


def _serve_threads(
    app: Any,
    config: Config,
    listening: list[list[socket.socket]],
    heartbeat: Heartbeat,
    freezer: Freezer,
    access: AccessLog,
    counters: metrics.Counters,
    handover: Handover | None,
) -> int:
    watchdog = Watchdog(config.timeout_loop_stall)
    others = [
        LoopThread(
            app,
            config,
            bound,
            heartbeat=heartbeat,
            watchdog=watchdog,
            freezer=freezer,
            access=access,
            counters=counters,
            number=number,
        )
        for number, bound in enumerate(listening[1:], 1)
    ]
    main = LoopThread(
        app,
        config,
        listening[0],
        followers=others,
        heartbeat=heartbeat,
        watchdog=watchdog,
        freezer=freezer,
        access=access,
        counters=counters,
    )
    main.handover = handover
    threads = [
        threading.Thread(target=_follow, args=(each, main), name=f"turboapi-loop-{number}")
        for number, each in enumerate(others, 1)
    ]
    for thread in threads:
        thread.start()
    code = 0
    try:
        for each in others:
            each.ready.wait()
        if not any(each.exit_code for each in others):
            code = main.run()
    finally:
        # They may have been told already, and still have something in flight.
        for each in others:
            each.stop(at_once=code == EXIT_FORCED)
        for thread in threads:
            thread.join()
    return code or next((each.exit_code for each in others if each.exit_code), 0)


def _follow(each: LoopThread, main: LoopThread) -> None:
    try:
        each.run()
    except BaseException:
        logger.exception("A thread of the server ended")
    finally:
        if each.exit_code:
            main.stop()
