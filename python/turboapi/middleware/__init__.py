"""Middleware: Starlette's, under the names that FastAPI gives them, and our own."""

from starlette.middleware import Middleware as Middleware

from turboapi.middleware.compress import CompressMiddleware as CompressMiddleware
