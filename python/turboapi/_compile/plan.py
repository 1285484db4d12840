"""The compiler: a `Dependant` and a route's settings become the spec of a `_core.Plan`.

docs/engine.md is the contract. Everything that can be known before a request is decided here;
what Python has to do during one is in the hooks (hooks.py).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from starlette.convertors import PathConvertor, StringConvertor
from starlette.responses import HTMLResponse, PlainTextResponse

from turboapi import _core
from turboapi._compat import ModelField
from turboapi._compile.shape import shape_of
from turboapi._compile.slots import bound_validator, core_schema_of
from turboapi.dependencies.models import (
    Dependant,
    _get_computed_scope,
    _get_oauth_scopes,
    _is_async_gen_callable,
    _is_coroutine_callable,
    _is_gen_callable,
)
from turboapi.security.base import SecurityBase

if TYPE_CHECKING:
    from turboapi._compile.hooks import RequestHooks

Spec = dict[str, Any]

# The content types of classes that send a text as it is.
_TEXT_TYPES: dict[Any, bytes] = {
    HTMLResponse: b"text/html; charset=utf-8",
    PlainTextResponse: b"text/plain; charset=utf-8",
}

# Options of dumps that shapes know.
_SHAPED = {"by_alias", "include", "exclude", "exclude_none", "exclude_unset"}


class _Compiler:
    def __init__(
        self,
        hooks: "RequestHooks",
        overrides: Mapping[Any, Any] | None,
        begun: Sequence[Dependant],
    ) -> None:
        self.hooks = hooks
        self.overrides = overrides
        self.begun = begun
        # What stands for each dependency, in the order in which their turns begin.
        self.turns: list[Dependant] = []
        self.nodes: list[Spec] = []
        # The Dependant of each node, for hooks that get a node's index.
        self.dependants: list[Dependant] = []
        self.slots: dict[Any, int] = {}
        self.scopes_cache: dict[int, tuple[Any, bool]] = {}
        # Other convertors make objects of the text: those are in path_params.
        self.path_positions = {
            name: position
            for position, (name, convertor) in enumerate(hooks.param_convertors.items())
            if type(convertor) in (StringConvertor, PathConvertor)
        }

    def compile(self) -> None:
        self._add(self.hooks.dependant, used=self.hooks.dependant, is_endpoint=True)

    def _add(self, declared: Dependant, *, used: Dependant, is_endpoint: bool = False) -> int:
        """Add `used` and what it depends on; `declared` is what stood there before overrides."""
        children = [self._add(child, used=self._turn(child)) for child in used.dependencies]
        index = len(self.nodes)
        for child_index in children:
            self.nodes[child_index]["parent"] = index
        node: Spec = {
            "call": used.call,
            "kind": _kind(used),
            "run": self.hooks.run_mode if is_endpoint else None,
            "name": declared.name,
            "parent": -1,
            "cache": -1 if is_endpoint else self._slot(declared),
            "use_cache": declared.use_cache,
            "scope": None if is_endpoint else _get_computed_scope(dependant=used),
            "params": self.hooks.param_slots(used, self.path_positions),
            "inject": _inject(used, self.hooks),
            "body": self.hooks.body_slot(used),
            "concurrency": None if is_endpoint else used.concurrency,
            "credential": None if is_endpoint or used.concurrency else _credential(used.call),
        }
        self.nodes.append(node)
        self.dependants.append(used)
        return index

    def _turn(self, dependant: Dependant) -> Dependant:
        place = len(self.turns)
        used = self.begun[place] if place < len(self.begun) else self._overridden(dependant)
        self.turns.append(used)
        return used

    def _overridden(self, dependant: Dependant) -> Dependant:
        if not self.overrides:
            return dependant
        # What is not overridden itself may have something below it that is.
        return self.hooks.analyse(
            path=dependant.path or "",
            call=self.overrides.get(dependant.call, dependant.call),
            name=dependant.name,
            parent_oauth_scopes=_get_oauth_scopes(dependant=dependant),
            scope=dependant.scope,
            concurrency=dependant.concurrency,
        )

    def _slot(self, dependant: Dependant) -> int:
        key = self.hooks.cache_key(dependant, self.scopes_cache)
        return self.slots.setdefault(key, len(self.slots))


def _credential(call: Any) -> Any:
    if not isinstance(call, SecurityBase):
        return None
    from turboapi._compile.credentials import credential  # lazy: with all kinds of schemes

    return credential(call)


def compile_spec(
    hooks: "RequestHooks",
    overrides: Mapping[Any, Any] | None = None,
    begun: Sequence[Dependant] = (),
) -> tuple[Spec, list[Dependant], list[Dependant]]:
    """Return the keywords for `_core.Plan`, the Dependant of each of its nodes, and those by turns.

    A dependency's turn begins before those that it depends on; the node of what it is called with
    comes after theirs. The first turns are those of `begun`, whatever the overrides say.
    """
    compiler = _Compiler(hooks, overrides, begun)
    compiler.compile()
    spec: Spec = {
        "nodes": compiler.nodes,
        "body": (("form" if hooks.is_form else "json") if hooks.body_field else None),
        "strict_content_type": hooks.strict_content_type,
        "max_body_size": hooks.max_body_size,
        "status_code": hooks.status_code,
        "response": _response(hooks),
        "hooks": hooks,
    }
    return spec, compiler.dependants, compiler.turns


def _response(hooks: "RequestHooks") -> Spec:
    call = hooks.dependant.call
    coroutine = _is_coroutine_callable(call)
    if hooks.streams:
        return {"kind": "python", "is_coroutine": coroutine}
    field = hooks.response_field
    if field is None and hooks.plain_json:
        return {"kind": "json", "is_coroutine": coroutine}
    if field is None:
        text = _TEXT_TYPES.get(hooks.response_class)
        return {"kind": "class", "text": text, "is_coroutine": coroutine}
    if not hooks.dumps_json:
        return {"kind": "class", "is_coroutine": coroutine}
    return {
        "kind": "field",
        "validator": bound_validator(field),
        "to_json": _dumper(field, hooks.dump_options),
        "shape": dump_shape(field, hooks.dump_options),
        "is_coroutine": coroutine,
    }


def _kind(dependant: Dependant) -> str:
    call = dependant.call
    if _is_async_gen_callable(call):
        return "asyncgen"
    if _is_gen_callable(call):
        return "gen"
    return "async" if _is_coroutine_callable(call) else "sync"


def _inject(dependant: Dependant, hooks: "RequestHooks") -> list[tuple[str, Any]]:
    names = [
        (dependant.http_connection_param_name, "connection"),
        # The other kind of connection is not there: the call misses an argument.
        (dependant.websocket_param_name, "websocket")
        if hooks.is_websocket
        else (dependant.request_param_name, "request"),
        (dependant.background_tasks_param_name, "background"),
        (dependant.response_param_name, "response"),
    ]
    found: list[tuple[str, Any]] = [(name, what) for name, what in names if name]
    if dependant.security_scopes_param_name:
        scopes = hooks.security_scopes(scopes=_get_oauth_scopes(dependant=dependant))
        found.append((dependant.security_scopes_param_name, ("const", scopes)))
    return found


def _dumper(field: ModelField, options: Mapping[str, Any]) -> Callable[[Any], bytes]:
    from pydantic_core import SchemaSerializer

    serializer = field._type_adapter.serializer
    given = {name: v for name, v in options.items() if v not in (None, False) or name == "by_alias"}
    if type(serializer) is SchemaSerializer:
        return partial(serializer.to_json, **given)
    return partial(field.serialize_json, **options)


def dump_shape(field: ModelField, options: Mapping[str, Any]) -> _core.Shape | None:
    """Return what C can dump by itself, and what pydantic takes for granted.

    None, too, when something wraps pydantic's validator: a plugin has to see the values.
    """
    given = {name: value for name, value in options.items() if value not in (None, False)}
    given["by_alias"] = options["by_alias"]
    for name in ("include", "exclude"):
        names = cast("frozenset[Any]", given.get(name, frozenset()))
        if type(names) not in (set, frozenset) or any(type(each) is not str for each in names):
            return None
    schema = None if given.keys() - _SHAPED else core_schema_of(field)
    if schema is None or bound_validator(field) is None:
        return None
    return shape_of(schema, **given)
