"""Starlette's Jinja2 templates under FastAPI's module name."""

from starlette.templating import Jinja2Templates as Jinja2Templates
