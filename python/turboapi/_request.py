"""The `Request` that endpoints get: Starlette's, which reads a whole body in one piece."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request

_BODY = Request.body  # instrumentation may replace it: then it is asked


class EngineRequest(Request):
    """A request whose `body()` lets the native server gather it, not asking for each piece.

    Through other doors, and when the body was read in part before, it is Starlette's own.
    """

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            ClientDisconnect: the client went away before all of it was here.
        """
        if not hasattr(self, "_body"):
            # No bound method in a variable: it would live, and be traversed by the garbage
            # collector, as long as the body is awaited.
            exchange: Any = getattr(self._receive, "__self__", None)
            if (
                getattr(exchange, "gather", None) is None
                or self._stream_consumed
                or Request.body is not _BODY
            ):
                return await super().body()
            try:
                found = exchange.gather()
                if found is None:
                    return await super().body()
                self._body = found if type(found) is bytes else await found
            except ClientDisconnect:
                self._is_disconnected = True
                raise
            self._stream_consumed = True
        return self._body


# Its name is in what applications print and log.
EngineRequest.__name__ = EngineRequest.__qualname__ = Request.__name__
EngineRequest.__module__ = Request.__module__
