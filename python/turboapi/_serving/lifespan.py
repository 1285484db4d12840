"""The server's side of ASGI's lifespan protocol."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from turboapi._serving.signals import is_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("turboapi.server")

_Phase = Literal["startup", "shutdown"]


class LifespanError(Exception):
    """The application failed to start or to stop; the log says why."""


class Lifespan:
    """Start and end of an application in one event loop.

    Attributes:
        state: what the application put into `scope["state"]`; each request gets a copy.
    """

    def __init__(self, app: Callable[..., Any], mode: str) -> None:
        """`mode`: "on" (its absence is an error), "auto" (its absence is fine) or "off"."""
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._done = {"startup": asyncio.Event(), "shutdown": asyncio.Event()}
        self._failed: _Phase | None = None
        self._abandoned = False
        self._ended = mode == "off"
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Run the application up to the end of its startup.

        Raises:
            LifespanError: it failed, or has no lifespan although one is demanded.
        """
        if self._ended:
            return
        logger.info("Waiting for application startup.")
        self._task = asyncio.create_task(self._run(), name="lifespan")
        await self._step("startup")
        if self._failed or (self._ended and self._mode == "on"):
            logger.error("Application startup failed. Exiting.")
            raise LifespanError("startup")
        logger.info("Application startup complete.")

    async def shutdown(self) -> None:
        """Tell the application to stop, and wait for it.

        Raises:
            LifespanError: it failed.
        """
        if self._ended:
            return
        logger.info("Waiting for application shutdown.")
        await self._step("shutdown")
        if self._task is not None:
            # After its last message it may still have something to do.
            with suppress(asyncio.CancelledError):
                await self._task
        if self._failed:
            logger.error("Application shutdown failed. Exiting.")
            raise LifespanError("shutdown")
        logger.info("Application shutdown complete.")

    async def abandon(self) -> None:
        """End the application in the midst of its startup, which need not be told why."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()
            # For one that heeds no cancellation.
            self._messages.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait({self._task})

    def forget(self) -> None:
        """Say no more of it: a forced end cancels it, which is no failure of the application."""
        self._abandoned = True

    async def _step(self, phase: _Phase) -> None:
        self._messages.put_nowait({"type": f"lifespan.{phase}"})
        await self._done[phase].wait()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._messages.get, self._send)
        except BaseException as error:
            self._explain(error)
            if isinstance(error, KeyboardInterrupt) and is_ctrl_c(error):
                raise
        finally:
            self._ended = True
            for event in self._done.values():
                event.set()

    def _explain(self, error: BaseException) -> None:
        if self._failed or self._abandoned or isinstance(error, asyncio.CancelledError):
            return
        if self._done["startup"].is_set():
            self._failed = "shutdown"
            logger.error("Exception in 'lifespan' protocol\n", exc_info=error)
        elif self._mode == "auto":
            logger.info("ASGI 'lifespan' protocol appears unsupported.")
        else:
            logger.error("Exception in 'lifespan' protocol\n", exc_info=error)

    async def _send(self, message: dict[str, Any]) -> None:
        _, _, rest = str(message["type"]).partition("lifespan.")
        phase, _, outcome = rest.partition(".")
        if phase not in ("startup", "shutdown") or outcome not in ("complete", "failed"):
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r} in the lifespan.")
        before = phase == "startup" or self._done["startup"].is_set()
        if not before or self._done[phase].is_set():
            raise RuntimeError("Got invalid state transition on lifespan protocol.")
        if outcome == "failed":
            self._failed = "startup" if phase == "startup" else "shutdown"
            # It may come while requests are served: a task that the lifespan waits for has failed.
            if message.get("message") and not self._abandoned:
                logger.error("%s", message["message"])
        self._done[phase].set()
