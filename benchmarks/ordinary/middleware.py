"""Prometheus, CORS and correlation ids."""

import chosen  # first: it decides what `fastapi` is

# isort: split
import null
from asgi_correlation_id import CorrelationIdMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router
from starlette_exporter import PrometheusMiddleware

if chosen.ALONE:
    # The exporter asks the routes for the path: those that a FastAPI application has.
    paths = "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/x/{i}"
    router = Router([Route(path, null.endpoint) for path in paths])
    if chosen.FRAMEWORK == "alone-fastapi":
        from fastapi import FastAPI

        asked = FastAPI()
        asked.get(paths[-1])(null.endpoint)
        router = asked.router
    inner = PrometheusMiddleware(null.Application(router=router), group_paths=True)
    app = CorrelationIdMiddleware(CORSMiddleware(inner, allow_origins=["*"]))
else:
    from fastapi import FastAPI

    app = FastAPI()
    app.add_middleware(PrometheusMiddleware, group_paths=True)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(CorrelationIdMiddleware)

    @app.get("/x/{i}")
    async def x(i: int):
        return {"i": i}
