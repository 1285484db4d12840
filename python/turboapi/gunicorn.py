"""A worker for gunicorn, which is the supervisor then.

    gunicorn main:app -k turboapi.gunicorn.Worker

gunicorn's options say where it listens, how many workers there are, and where the logs go; those
about keep-alive, TLS, proxies, the lines and fields of a request and the number of requests
have their effect, too.
Everything else comes from the environment (`TURBOAPI_*`), or from a subclass:

    class Worker(turboapi.gunicorn.Worker):
        CONFIG_KWARGS = {"limit_body_bytes": "10M"}
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import copy
import logging
import os
import secrets
import signal
import sys
from collections.abc import Generator
from types import FrameType
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.workers.base import Worker as _Base

from turboapi import _core
from turboapi._serving import metrics, other_names, run, sockets
from turboapi._serving.embedded import Config, Server
from turboapi._serving.server import new_loop
from turboapi.config import Config as Settings
from turboapi.config import ConfigError

__all__ = ["Worker"]

# gunicorn's loggers decide what is shown.
_LOGGERS = {"turboapi": "error_log", "uvicorn": "error_log"}
_ACCESS_LOGGERS = {"turboapi.access": "access_log", "uvicorn.access": "access_log"}
_SIGNALS = (signal.SIGINT, signal.SIGQUIT)

_LIMITS = {
    "limit_request_line": "limit_request_line",
    "limit_request_fields": "limit_header_count",
}

# Of the time that the arbiter gives a worker to end, what requests in flight may take; the rest is
# the application's shutdown's.
_GRACE = 0.9
# Between two signs of life, in seconds, at most.
_BEAT = 1.0

# Made in the arbiter: all workers know the sessions of TLS.
_TICKET_SECRET = secrets.token_bytes(32)

# Descriptors for the arbiter that SIGUSR2 starts: see `metrics.Shared`.
_PASSED = "_TURBOAPI_GUNICORN_METRICS"

# The metrics of all workers; the arbiter's, which the workers inherit.
_shared: metrics.Shared | None = None


class Worker(_Base):  # type: ignore[misc]
    """Serves the application of gunicorn's configuration.

    Attributes:
        CONFIG_KWARGS: settings of `turboapi.config.Config` for subclasses to give.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}

    _alive = True
    _server: Server | None = None

    def __init__(self, *args: Any, **named: Any) -> None:
        """Prepare a worker; the arbiter calls it, before it forks."""
        super().__init__(*args, **named)
        with contextlib.suppress(ConfigError):  # which the worker tells of
            settings = _settings_of(self)
            _check_redirect(self, settings)
            _share_metrics(self, settings)
        self._shared = _shared

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Warn of settings that have no effect; the arbiter calls it once, when it starts."""
        for warning in other_names.strange_variables(os.environ):
            log.warning("%s", warning)
        if cfg.access_log_format != cfg.settings["access_log_format"].default:
            log.warning(
                "--access-logformat (access_log_format) has no effect with this worker: set "
                "TURBOAPI_ACCESS_LOG_FORMAT to common, combined, json or a format of its own"
            )

    @property
    def alive(self) -> bool:
        """Whether it is to go on: gunicorn's handlers of signals and its reloader say no."""
        return self._alive

    @alive.setter
    def alive(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._alive = value
        if not value and self._server is not None:
            self._server.should_exit = True

    def init_process(self) -> None:
        """Do all that the worker's process does."""
        with contextlib.nullcontext() if self._shared is None else self._shared.shown():
            super().init_process()

    def run(self) -> None:
        """Serve until the arbiter ends it; gunicorn calls it in the worker's process."""
        if not self.alive:  # told so during the import
            return
        signal.set_wakeup_fd(-1)  # of gunicorn's own workers
        for name, theirs in {**_LOGGERS, **_ACCESS_LOGGERS}.items():
            logger, given = logging.getLogger(name), getattr(self.log, theirs)
            logger.handlers, logger.level, logger.propagate = given.handlers, given.level, False
        for handler in self.log.access_log.handlers:
            handler.setFormatter(_AccessFormatter(handler.formatter or logging.Formatter()))
        try:
            config = Config(self.wsgi, **self._settings())
        except ConfigError as error:  # another worker would say the same
            self.log.error("%s", error)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        if self._shared is not None:
            config.settings = self._shared.counted_by(config.settings)
        elif config.metrics is not None:
            self.log.warning("No metrics: gunicorn does not listen at %s", config.metrics)
            config.metrics = None
        if config.ssl_certfile and config.ssl_ticket_secret is None:
            config.ssl_ticket_secret = _TICKET_SECRET
        self._server = server = _Server(config, self)
        if not self.alive:
            server.should_exit = True
        selector, kind = _core.Selector(), config.settings.loop
        try:
            with asyncio.Runner(loop_factory=lambda: new_loop(kind, selector)) as runner:
                runner.run(self._serve(server))
        except sockets.BindError as error:  # nor could another one
            self.log.error("%s", error)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        finally:
            selector.close()
        if not server.started and not server.should_exit:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "log_config": None,
            # What the environment says of them (WEB_CONCURRENCY) is for the arbiter.
            "workers": 1,
            "reload": False,
            "preload": False,
            "access_log": _has_access_log(self.cfg),
            "timeout_idle": self.cfg.keepalive,
            "timeout_graceful_shutdown": self.cfg.graceful_timeout * _GRACE,
            "forwarded_allow_ips": self.cfg.forwarded_allow_ips,
            # Whom it believes is what forwarded_allow_ips says, too.
            "proxy_protocol": self.cfg.proxy_protocol not in (False, "off"),
            "backlog": self.cfg.backlog,
            "max_requests": self.max_requests if self.max_requests < sys.maxsize else 0,
        }
        for theirs, ours in _LIMITS.items():
            # gunicorn's defaults are not what somebody wants.
            if (limit := getattr(self.cfg, theirs)) != self.cfg.settings[theirs].default:
                settings[ours] = limit
        if not self.cfg.keepalive:  # gunicorn's word for one request a connection
            settings["limit_requests_per_conn"] = 1
        if self.cfg.is_ssl:
            settings["ssl_certfile"] = self.cfg.certfile
            settings["ssl_keyfile"] = self.cfg.keyfile
            settings["ssl_ca_certs"] = self.cfg.ca_certs
            settings["ssl_cert_reqs"] = self.cfg.cert_reqs
            settings["ssl_ciphers"] = self.cfg.ciphers
        return {**settings, **self.CONFIG_KWARGS}

    async def _serve(self, server: Server) -> None:
        beating = asyncio.create_task(self._beat(server))
        try:
            bound: Any = self.sockets
            await server.serve([each.sock for each in bound])
        finally:
            beating.cancel()

    async def _beat(self, server: Server) -> None:
        """Tell the arbiter that the loop goes on, and end when there is none any more."""
        # gunicorn gives workers half of its timeout; 0: it does not look.
        pause = min(_BEAT, self.timeout) or _BEAT
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                server.should_exit = True
            await asyncio.sleep(pause)


class _Server(Server):
    """One that ends quietly: the arbiter knows why it does."""

    _has_siblings = True

    def __init__(self, config: Config, worker: Worker) -> None:
        super().__init__(config)
        self._worker = worker

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # The other ones, which tell the worker by `alive`, have gunicorn's own handlers.
        for number in _SIGNALS:
            signal.signal(number, self._on_interrupt)
        yield

    def _on_interrupt(self, sig: int, frame: FrameType | None) -> None:
        self.handle_exit(sig, frame)
        self._worker.alive = False
        self._worker.cfg.worker_int(self._worker)


def _has_access_log(cfg: Any) -> bool:
    """Return whether gunicorn's own workers would write to it."""
    configured = cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json
    in_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
    return bool(cfg.accesslog or configured or in_syslog)


class _AccessFormatter(logging.Formatter):
    """Has another one write the lines of `access_log_format`, where that is not uvicorn's."""

    def __init__(self, given: logging.Formatter) -> None:
        super().__init__()
        self._given = given

    def format(self, record: logging.LogRecord) -> str:
        """Write a line."""
        line = getattr(record, "access_line", None)
        if line is not None:
            record = copy.copy(record)
            record.msg, record.args = str(line).rstrip("\n"), None
        return self._given.format(record)


def _check_redirect(worker: Worker, settings: Settings) -> None:
    """End gunicorn if the port of `redirect_http` is taken; later our own workers have it."""
    if settings.redirect_http is None or worker.age > 1 or "GUNICORN_PID" in os.environ:
        return
    from turboapi._serving import redirect  # lazy: few want it

    try:
        redirect.check(settings)
    except sockets.BindError as error:
        raise HaltServer(str(error), Arbiter.WORKER_BOOT_ERROR) from None


def _share_metrics(worker: Worker, settings: Settings) -> None:
    """Have what the workers' metrics need, as the settings say now: at the start, and after HUP."""
    global _shared
    known = _shared
    if _shared is None and (passed := os.environ.pop(_PASSED, None)) is not None:
        _shared = metrics.Shared.taken(settings, passed)
    before = _shared
    if settings.metrics is None:
        _shared = None
    elif before is None or not before.fits(settings):
        try:
            _shared = metrics.Shared(settings, before)
        except sockets.BindError as error:
            if worker.age == 1:
                raise HaltServer(str(error), Arbiter.WORKER_BOOT_ERROR) from None
            worker.log.error("%s", error)  # what serves goes on as it is
    if before is not None and before is not _shared:
        before.close()
    # gunicorn gives the successor the environment that it began with itself.
    worker.cfg.env_orig.pop(_PASSED, None)
    if _shared is not None:
        if _shared is not known:
            atexit.register(_remove_file, _shared, os.getpid())
        worker.cfg.env_orig[_PASSED] = _shared.pass_on()


def _settings_of(worker: Worker) -> Settings:
    """Return what the worker's settings will be, and leave the environment as it is."""
    before = dict(os.environ)
    try:
        found = run.settings_of(None, worker._settings())
    finally:
        if dict(os.environ) != before:  # by env_file, which may be another one after HUP
            os.environ.clear()
            os.environ.update(before)
    return found.replace(workers=max(1, worker.cfg.workers))


def _remove_file(shared: metrics.Shared, arbiter: int) -> None:
    if os.getpid() == arbiter:
        shared.remove_file()
