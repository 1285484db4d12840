"""Sentry's SDK with 1 % of traces; what it would send is dropped."""

import chosen  # first: it decides what `fastapi` is

# isort: split
import sentry_sdk
from sentry_sdk.transport import Transport


class Drop(Transport):
    def capture_envelope(self, envelope):
        pass


# Before the application, as Sentry's documentation has it.
sentry_sdk.init(dsn="https://k@localhost/1", traces_sample_rate=0.01, transport=Drop)

if chosen.ALONE:
    import null
    from sentry_sdk.integrations.starlette import _wrap_async_handler
    from starlette.applications import Starlette
    from starlette.middleware import Middleware

    LAYERS = 5  # FastAPI has so many round its router; Sentry wraps each of them

    def layer():
        class Layer:
            def __init__(self, app):
                self.app = app

            async def __call__(self, scope, receive, send):
                await self.app(scope, receive, send)

        return Middleware(Layer)

    class Null(Starlette):
        def build_middleware_stack(self):
            inner = null.Application(wrap=_wrap_async_handler)
            for each in [layer() for _ in range(LAYERS)]:
                inner = each.cls(inner)
            return inner

    # What Sentry's integrations do to Starlette's classes holds here, too.
    app = Null()
else:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/x/{i}")
    async def x(i: int):
        return {"i": i}
