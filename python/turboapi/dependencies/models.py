"""`Dependant`: what one callable needs of a request; and what kind of callable it is."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

from turboapi._compat import ModelField
from turboapi.concurrency import _DependencyConcurrency
from turboapi.security.base import SecurityBase
from turboapi.types import DependencyCacheKey

if sys.version_info >= (3, 13):
    from inspect import iscoroutinefunction
else:
    # Also knows the marker with which older libraries flag callables as coroutine functions.
    from asyncio import iscoroutinefunction


@dataclass(slots=True)
class Dependant:
    """The parameters and sub-dependencies of ``call``; a tree with the endpoint at its root."""

    path_params: list[ModelField] = field(default_factory=list[ModelField])
    query_params: list[ModelField] = field(default_factory=list[ModelField])
    header_params: list[ModelField] = field(default_factory=list[ModelField])
    cookie_params: list[ModelField] = field(default_factory=list[ModelField])
    body_params: list[ModelField] = field(default_factory=list[ModelField])
    dependencies: list["Dependant"] = field(default_factory=list["Dependant"])
    name: str | None = None
    call: Callable[..., Any] | None = None
    request_param_name: str | None = None
    websocket_param_name: str | None = None
    http_connection_param_name: str | None = None
    response_param_name: str | None = None
    background_tasks_param_name: str | None = None
    security_scopes_param_name: str | None = None
    own_oauth_scopes: list[str] | None = None
    parent_oauth_scopes: list[str] | None = None
    use_cache: bool = True
    path: str | None = None
    scope: Literal["function", "request"] | None = None
    concurrency: _DependencyConcurrency | None = None


# Answers of _uses_scopes by id(), with the object itself so that the id stays taken.
_UsesScopesCache = dict[int, tuple[Dependant, bool]]


class _CallKind(NamedTuple):
    generator: bool
    async_generator: bool
    coroutine: bool


class _ByIdentity:
    """A cache key for callables that are equal only to themselves, or can't be hashed."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __hash__(self) -> int:
        return id(self.call)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.call is other.call


def _without_partial(call: Any) -> Any:
    while isinstance(call, partial):
        call = call.func
    return call


def _unwrapped_call(call: Callable[..., Any] | None) -> Any:
    """Return the function behind ``functools.partial`` and ``functools.wraps``."""
    return None if call is None else inspect.unwrap(_without_partial(call))


def _both_forms(call: Any) -> tuple[Any, Any]:
    return _without_partial(call), _unwrapped_call(call)


@lru_cache(maxsize=4096)
def _kind_of(key: _ByIdentity) -> _CallKind:
    direct = _both_forms(key.call)
    methods: list[Any] = []
    # Of a class the instances may be awaitable, not the class.
    if not inspect.isclass(direct[1]):
        for each in direct:
            method = getattr(each, "__call__", None)  # noqa: B004
            if method is not None:
                methods.extend(_both_forms(method))
    everything = (*direct, *methods)
    # An object counts by its __call__ alone: attributes of its own may look like a marker.
    awaitable = [*filter(inspect.isroutine, direct), *methods]
    return _CallKind(
        any(map(inspect.isgeneratorfunction, everything)),
        any(map(inspect.isasyncgenfunction, everything)),
        any(map(iscoroutinefunction, awaitable)),
    )


def _call_kind(call: Callable[..., Any] | None) -> _CallKind:
    return _CallKind(False, False, False) if call is None else _kind_of(_ByIdentity(call))


def _is_gen_callable(call: Callable[..., Any] | None) -> bool:
    return _call_kind(call).generator


def _is_async_gen_callable(call: Callable[..., Any] | None) -> bool:
    return _call_kind(call).async_generator


def _is_coroutine_callable(call: Callable[..., Any] | None) -> bool:
    return _call_kind(call).coroutine


def _get_computed_scope(*, dependant: Dependant) -> str | None:
    """Return the declared scope; generators without one live as long as the request."""
    if dependant.scope:
        return dependant.scope
    kind = _call_kind(dependant.call)
    return "request" if kind.generator or kind.async_generator else None


def _get_oauth_scopes(*, dependant: Dependant) -> list[str]:
    """Return the scopes asked for from the endpoint down to here, each once, in order."""
    scopes = list(dependant.parent_oauth_scopes or [])
    scopes += [s for s in dict.fromkeys(dependant.own_oauth_scopes or []) if s not in scopes]
    return scopes


def _get_security_scheme(*, dependant: Dependant) -> SecurityBase:
    scheme = _unwrapped_call(dependant.call)
    assert _is_security_scheme(dependant=dependant)
    return scheme  # type: ignore[no-any-return]


def _is_security_scheme(*, dependant: Dependant) -> bool:
    return isinstance(_unwrapped_call(dependant.call), SecurityBase)


def _uses_scopes(*, dependant: Dependant, cache: _UsesScopesCache | None = None) -> bool:
    """Return whether scopes can change the result of this dependency, or of one below it."""
    if cache is None:
        cache = {}
    known = cache.get(id(dependant))
    if known is not None and known[0] is dependant:
        return known[1]
    result = (
        bool(dependant.own_oauth_scopes)
        or dependant.security_scopes_param_name is not None
        or _is_security_scheme(dependant=dependant)
        or any(_uses_scopes(dependant=sub, cache=cache) for sub in dependant.dependencies)
    )
    cache[id(dependant)] = (dependant, result)
    return result


def _get_cache_key(
    *, dependant: Dependant, uses_scopes_cache: _UsesScopesCache | None = None
) -> DependencyCacheKey:
    """Dependencies with equal keys have the same value within a request."""
    scopes: tuple[str, ...] = ()
    if _uses_scopes(dependant=dependant, cache=uses_scopes_cache):
        scopes = tuple(sorted(set(_get_oauth_scopes(dependant=dependant))))
    return dependant.call, scopes, _get_computed_scope(dependant=dependant) or ""
