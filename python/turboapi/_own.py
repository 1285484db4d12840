"""Which applications are ours, for the modules that `turboapi.applications` is made of."""

from typing import Any


def is_own(app: Any) -> bool:
    """Return whether it is a `FastAPI` of ours; `isinstance` without its module."""
    return hasattr(app.__class__, "_native_app")
