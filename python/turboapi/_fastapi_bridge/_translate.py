"""FastAPI's Dependants, fields and declarations as ours.

The fields keep pydantic's adapters, so that what validates is the very same; only the classes by
which the compiler tells a query parameter from a form are exchanged.
"""

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from turboapi import params
from turboapi._compat import ModelField, get_cached_model_fields
from turboapi._fastapi_bridge import _theirs
from turboapi.datastructures import Default, DefaultPlaceholder
from turboapi.dependencies._extract import _get_model_type
from turboapi.dependencies._forms import _get_form_union_models
from turboapi.dependencies.models import Dependant

_FIELD_LISTS = ("path_params", "query_params", "header_params", "cookie_params", "body_params")
# `concurrency` came with 0.163.
_PLAIN = (
    "name",
    "call",
    "request_param_name",
    "websocket_param_name",
    "http_connection_param_name",
    "response_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
    "own_oauth_scopes",
    "parent_oauth_scopes",
    "use_cache",
    "path",
    "scope",
    "concurrency",
)
_KINDS: dict[str, type[FieldInfo]] = {
    each.__name__: each
    for each in (
        params.Path,
        params.Query,
        params.Header,
        params.Cookie,
        params.Body,
        params.Form,
        params.File,
    )
}
_MISSING: Any = object()


class CannotTranslate(Exception):  # noqa: N818
    """A route that is left to FastAPI; the text says why."""


class Translated(Dependant):
    """Our form of a Dependant, and the Dependant."""

    original: Any = None


class Translator:
    """Translates the parts of one application; a field that occurs twice stays one field."""

    def __init__(self) -> None:
        self._fields: dict[int, tuple[Any, ModelField]] = {}

    def dependant(self, theirs: Any) -> Translated:
        """Return the tree below `theirs`; raise CannotTranslate."""
        ours = Translated(
            **{name: getattr(theirs, name) for name in _PLAIN if hasattr(theirs, name)}
        )
        ours.original = theirs
        for name in _FIELD_LISTS:
            fields = [self.field(each) for each in getattr(theirs, name)]
            for field in fields:
                _check_members(field.field_info)
            setattr(ours, name, fields)
        ours.dependencies = [self.dependant(each) for each in theirs.dependencies]
        return ours

    def field(self, theirs: Any) -> ModelField:
        """Return the same field with a declaration of ours; raise CannotTranslate."""
        known = self._fields.get(id(theirs))
        if known is not None and known[0] is theirs:
            return known[1]
        ours = ModelField.__new__(ModelField)
        ours.field_info = _declaration(theirs.field_info)
        ours.name, ours.mode, ours.config = theirs.name, theirs.mode, theirs.config
        ours._type_adapter, ours._lookup = theirs._type_adapter, None
        self._fields[id(theirs)] = theirs, ours
        return ours

    def optional_field(self, theirs: Any | None) -> ModelField | None:
        """As `field`."""
        return None if theirs is None else self.field(theirs)


def placeholder(theirs: Any) -> Any:
    """Return a setting, which may be marked as a default."""
    if isinstance(theirs, _theirs.module("fastapi.datastructures").DefaultPlaceholder):
        return Default(theirs.value)
    assert not isinstance(theirs, DefaultPlaceholder)
    return theirs


def _kind(info: FieldInfo) -> type[FieldInfo] | None:
    for cls in type(info).__mro__:
        if cls.__module__ == "fastapi.params":
            if cls.__name__ in _KINDS:
                return _KINDS[cls.__name__]
            raise CannotTranslate(f"a parameter declared by {type(info).__qualname__}")
    return None


def _declaration(info: FieldInfo) -> FieldInfo:
    kind = _kind(info)
    if kind is None:
        return info
    ours: Any = kind.__new__(kind)
    for name in _slots(kind):
        value = getattr(info, name, _MISSING)
        if value is not _MISSING:
            setattr(ours, name, value)
    ours.__dict__.update(vars(info))
    place = getattr(info, "in_", None)
    if place is not None:
        ours.in_ = params.ParamTypes(place.value)
    return ours  # type: ignore[no-any-return]


def _slots(cls: type) -> Iterator[str]:
    for each in cls.__mro__:
        slots = vars(each).get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots


def _check_members(info: FieldInfo) -> None:
    """Refuse a parameter model with fields that are not pydantic's, since our code reads them."""
    if not isinstance(info, (params.Param, params.Form)):
        return
    model = _get_model_type(info.annotation)
    for each in [model] if model is not None else _get_form_union_models(info.annotation):
        for member in get_cached_model_fields(each):
            if type(member.field_info).__module__ == "fastapi.params":
                raise CannotTranslate("a parameter model with declarations in it")
