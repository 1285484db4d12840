"""Starlette's static files under FastAPI's module name."""

from starlette.staticfiles import StaticFiles as StaticFiles
