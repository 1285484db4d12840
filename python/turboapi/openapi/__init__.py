"""The OpenAPI description of an application and the pages that show it."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Return `models`, which is imported at the first use: it takes long."""
    if name != "models":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.models")


def __dir__() -> list[str]:
    return sorted({*globals(), "models"})
