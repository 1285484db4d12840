"""Starlette's `WSGIMiddleware` (deprecated there: a2wsgi is its successor), as a stream.

Chunks are sent when they are made, but no faster than the client takes them; the request body is
read as the application asks for it; and `close()` is always called at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.middleware.wsgi import WSGIMiddleware as _WSGIMiddleware

from turboapi._serving.wsgi import WSGIAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from turboapi._serving.wsgi import Exchange


class WSGIMiddleware(_WSGIMiddleware):
    """A WSGI application, to be mounted: `app.mount("/old", WSGIMiddleware(flask_app))`."""

    def __init__(self, app: Callable[..., Any]) -> None:
        super().__init__(app)
        self._adapter = _Mounted(app, threads=None, multiprocess=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request; there are no other ones for WSGI."""
        assert scope["type"] == "http"
        await self._adapter(scope, receive, send)


class _Mounted(WSGIAdapter):
    def _done(self, exchange: Exchange) -> None:
        """Raise, as Starlette does, the error that the application gave to start_response."""
        if exchange.exc_info is not None:
            _, error, traceback = exchange.exc_info
            raise error.with_traceback(traceback)
