"""Functions of Starlette, and of ours round them, in whose place C does the same (background.c)."""

from types import ModuleType
from typing import Any

from starlette import background as starlette_background

from turboapi import background
from turboapi._untouched import is_from


def _original(function: Any, module: ModuleType) -> Any:
    """Return the function if its module has defined it; else it was replaced, and is called."""
    return function if is_from(function, module) else None


TASK = _original(starlette_background.BackgroundTask.__call__, starlette_background)
TASKS = _original(starlette_background.BackgroundTasks.__call__, starlette_background)
OWN_TASKS = _original(background.BackgroundTasks.__call__, background)
