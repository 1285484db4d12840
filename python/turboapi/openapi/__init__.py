"""The OpenAPI description of an application and the pages that show it."""

from importlib import import_module
from typing import Any

_MODULES = ("models", "utils")


def __getattr__(name: str) -> Any:
    """Return a module that is imported at the first use: it takes long."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
