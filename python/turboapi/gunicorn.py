"""A worker for gunicorn, which is the supervisor then.

    gunicorn main:app -k turboapi.gunicorn.Worker

gunicorn's options say where it listens, how many workers there are, and what the log looks like;
those about keep-alive, TLS, trusted proxies and the number of requests have their effect, too.
Everything else comes from the environment (`TURBOAPI_*`), or from a subclass:

    class Worker(turboapi.gunicorn.Worker):
        CONFIG_KWARGS = {"limit_body_bytes": "10M"}
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Generator
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker as _Base

from turboapi import _core
from turboapi._serving.embedded import Config, Server
from turboapi._serving.server import new_loop

__all__ = ["Worker"]

# gunicorn's loggers decide what is shown.
_LOGGERS = {"turboapi": "error_log", "uvicorn": "error_log"}
_ACCESS_LOGGERS = {"turboapi.access": "access_log", "uvicorn.access": "access_log"}
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Worker(_Base):  # type: ignore[misc]
    """Serves the application of gunicorn's configuration.

    Attributes:
        CONFIG_KWARGS: settings of `turboapi.config.Config` for subclasses to give.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}

    def run(self) -> None:
        """Serve until the arbiter ends it; gunicorn calls it in the worker's process."""
        signal.set_wakeup_fd(-1)  # of gunicorn's own workers
        for name, theirs in {**_LOGGERS, **_ACCESS_LOGGERS}.items():
            logger, given = logging.getLogger(name), getattr(self.log, theirs)
            logger.handlers, logger.level, logger.propagate = given.handlers, given.level, False
        config = Config(self.wsgi, **{**self._settings(), **self.CONFIG_KWARGS})
        server = _Server(config)
        selector, kind = _core.Selector(), config.settings.loop
        try:
            with asyncio.Runner(loop_factory=lambda: new_loop(kind, selector)) as runner:
                runner.run(self._serve(server))
        finally:
            selector.close()
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "log_config": None,
            "access_log": bool(self.cfg.accesslog),
            "timeout_idle": self.cfg.keepalive,
            "timeout_graceful_shutdown": self.cfg.graceful_timeout,
            "forwarded_allow_ips": self.cfg.forwarded_allow_ips,
            "max_requests": self.max_requests if self.max_requests < sys.maxsize else 0,
        }
        if self.cfg.is_ssl:
            settings["ssl_certfile"] = self.cfg.certfile
            settings["ssl_keyfile"] = self.cfg.keyfile
            settings["ssl_ca_certs"] = self.cfg.ca_certs
            settings["ssl_cert_reqs"] = self.cfg.cert_reqs
        return settings

    async def _serve(self, server: Server) -> None:
        beating = asyncio.create_task(self._beat(server))
        try:
            bound: Any = self.sockets
            await server.serve([each.sock for each in bound])
        finally:
            beating.cancel()

    async def _beat(self, server: Server) -> None:
        """Tell the arbiter that the loop goes on, and end when there is none any more."""
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                server.should_exit = True
            await asyncio.sleep(1)


class _Server(Server):
    """One that ends quietly: the arbiter knows why it does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        for number in _SIGNALS:
            signal.signal(number, self.handle_exit)
        yield
