"""Starlette's `WSGIMiddleware` (deprecated there: a2wsgi is its successor)."""

from starlette.middleware.wsgi import WSGIMiddleware as WSGIMiddleware
