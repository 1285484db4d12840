"""What the routers keep in the ASGI scope, under the one key "fastapi"."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from starlette.types import Scope

from turboapi._form_limits import _FormLimits

FASTAPI = "fastapi"
# Keys below it.
EFFECTIVE_ROUTE = "effective_route_context"
INCLUDED_ROUTER = "included_router"
FORM_LIMITS = "form_limits"
FRONTEND_PATH = "frontend_path"
FRONTEND_SPECIFICITY = "frontend_specificity"

MISSING: Any = object()


def own_scope(scope: Scope) -> dict[str, Any]:
    """Return our part of the scope, made when it is not there yet."""
    own = scope.setdefault(FASTAPI, {})
    assert isinstance(own, dict)
    return own  # pyright: ignore[reportUnknownVariableType]


def peek(scope: Scope, key: str) -> Any:
    """Return the value under `key` of our part of the scope, or None."""
    return scope.get(FASTAPI, {}).get(key)


def effective_route_context(scope: Scope) -> Any:
    """Return the effective route of a request below an included router, or None."""
    return peek(scope, EFFECTIVE_ROUTE)


def restore_key(scope: Scope, key: str, previous: Any) -> None:
    """Put back what `key` held before; `MISSING`: nothing."""
    own = scope.get(FASTAPI)
    if not isinstance(own, dict):
        return
    if previous is MISSING:
        own.pop(key, None)  # pyright: ignore[reportUnknownMemberType]
    else:
        own[key] = previous


@contextmanager
def key_set(scope: Scope, key: str, value: Any) -> Generator[None]:
    """`key` is `value` inside of the block."""
    own = own_scope(scope)
    previous = own.get(key, MISSING)
    own[key] = value
    try:
        yield
    finally:
        restore_key(scope, key, previous)


def merge_child(scope: Scope, child: Scope) -> None:
    """Take over what a match found; our own part is merged, not replaced."""
    if FASTAPI in child:
        child = dict(child)
        ours = child.pop(FASTAPI)
        if isinstance(ours, dict):
            own_scope(scope).update(ours)  # pyright: ignore[reportUnknownArgumentType]
    scope.update(child)


def form_limits(scope: Scope, overrides: _FormLimits | None = None) -> _FormLimits:
    """Return the limits that hold for a form read now: inherited ones, then `overrides`."""
    inherited: _FormLimits = scope.get(FASTAPI, {}).get(FORM_LIMITS, {})
    return {**inherited, **overrides} if overrides else inherited


def add_form_limits(scope: Scope, limits: _FormLimits) -> None:
    """Apply a router's limits to what is below it."""
    if limits and scope["type"] == "http":
        own_scope(scope)[FORM_LIMITS] = form_limits(scope, limits)
