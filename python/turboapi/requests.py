"""Starlette's request types under FastAPI's module name."""

from starlette.requests import HTTPConnection as HTTPConnection
from starlette.requests import Request as Request
