"""What FastAPI's releases read in other ways than the engine: left to their functions, or to them.

The engine reads parameters and bodies as the newest release does. Where an older one differs, a
plan asks that release's own function for just those parameters, or the route is not compiled. Where
a group of functions is as in no known release, no route that needs it is compiled.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from turboapi._compat import ModelField, lenient_issubclass
from turboapi._compile.jsonmode import runs_user_code
from turboapi._compile.slots import Slot, core_schema_of
from turboapi._fastapi_bridge import _fingerprints, _theirs
from turboapi._fastapi_bridge._translate import CannotTranslate, Translated
from turboapi.dependencies._extract import lookup_of

_UTILS = "fastapi.dependencies.utils"
_SOURCES = ("path", "query", "header", "cookie")
_Read = Callable[[Any, dict[str, Any]], Any]


def _at_least(group: str, release: str) -> bool:
    return _fingerprints.installed().at_least(group, release)


def refuse_unknown(dependant: Any, body_field: Any | None) -> None:
    """Raise CannotTranslate if the route needs functions that are as in no known release."""
    unknown = _fingerprints.installed().unknown
    if not unknown:
        return
    if "body" in unknown and body_field is not None:
        raise CannotTranslate("a body, which no known release reads this way")
    for _, ours, _ in _fields(dependant):
        if "params" in unknown:
            raise CannotTranslate("parameters, which no known release reads this way")
        if "models" in unknown and _is_model(ours):
            raise CannotTranslate("a parameter model, which no known release reads this way")
    for below in dependant.dependencies:
        refuse_unknown(below, None)


def _fields(dependant: Translated) -> list[tuple[list[Any], ModelField, Any]]:
    """Return each field of the path, the query, headers and cookies: (all of theirs, ours, it)."""
    found: list[tuple[list[Any], ModelField, Any]] = []
    for source in _SOURCES:
        theirs = getattr(dependant.original, f"{source}_params")
        ours = getattr(dependant, f"{source}_params")
        found += [(theirs, *pair) for pair in zip(ours, theirs, strict=True)]
    return found


def _is_model(field: ModelField) -> bool:
    annotation = field.field_info.annotation
    return lookup_of(field).model is not None or lenient_issubclass(annotation, BaseModel)


# -- parameters ------------------------------------------------------------------------------------


def params(dependant: Translated, slots: list[Slot]) -> list[Slot]:
    """Return the ``params`` of a node, of which `slots` are those that the engine would read."""
    if _at_least("params", "0.160.0") and _at_least("models", "0.160.0"):
        return slots
    return [
        _asking(slot, all_of_them, theirs) if _deviates(ours) else slot
        for slot, (all_of_them, ours, theirs) in zip(slots, _fields(dependant), strict=True)
    ]


def _deviates(field: ModelField) -> bool:
    info = field.field_info
    if _is_model(field):
        if _at_least("models", "0.157.0"):
            raise CannotTranslate("a parameter model, which FastAPI 0.157 to 0.159 reads otherwise")
        return True
    if not _at_least("params", "0.156.6") and not (
        info.validation_alias is None or isinstance(info.validation_alias, str)
    ):
        return True
    return not _at_least("params", "0.148.0") and _validates_default(field)


def _validates_default(field: ModelField) -> bool:
    """Return whether validation changes the default, which those before 0.148 validate."""
    info = field.field_info
    if info.is_required() or (info.default is None and info.default_factory is None):
        return False
    schema = core_schema_of(field)
    if info.default_factory is not None or schema is None or runs_user_code(schema):
        return True
    default = field.get_default()
    value, errors = field.validate(deepcopy(default), {}, loc=())
    return bool(errors) or type(value) is not type(default) or value != default


def _asking(slot: Slot, all_of_them: list[Any], field: Any) -> Slot:
    read = _theirs.module(_UTILS).request_params_to_args
    is_first = field is all_of_them[0]

    def extract(container: Any, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        # Whether there are others makes a difference before 0.157.
        found, errors = read(all_of_them, container)
        own = [error for error in errors if is_first or error["loc"][1:2] == (slot["alias"],)]
        return found.get(field.name), own

    known = ("name", "source", "alias", "required")
    return {**{name: slot[name] for name in known}, "extract": extract}


# -- the body --------------------------------------------------------------------------------------


def body(dependant: Translated, slot: Slot, *, is_form: bool, embed_body_fields: bool) -> Slot:
    """Return the ``body`` of a node, of which `slot` is what the engine would read."""
    single = slot.get("single")
    if single is None:
        if _at_least("body", "0.162.0"):
            return slot
        if is_form and _at_least("body", "0.158.0") and not _at_least("body", "0.160.0"):
            raise CannotTranslate("a form, which FastAPI 0.158 and 0.159 read otherwise")
        return {**slot, "extract": _body_reader(dependant, embed_body_fields)}
    if _at_least("body", "0.151.0"):
        return slot
    (field,) = dependant.original.body_params
    own: Slot = {**single, "validate": _null_is_missing(field)}
    del own["loc"]  # What the validator refuses is asked again: it may be null.
    if _accepts_none(dependant.body_params[0]):
        own.update(validator=None, json_validator=None)
    return {"single": own}


def _body_reader(dependant: Translated, embed_body_fields: bool) -> _Read:
    read = _theirs.module(_UTILS).request_body_to_args
    fields = dependant.original.body_params
    nothing = PydanticUndefined if _at_least("body", "0.151.0") else None

    def extract(received: Any, values: dict[str, Any]) -> Any:
        given = nothing if received is PydanticUndefined else received
        return read(fields, given, embed_body_fields)

    return extract


def _null_is_missing(field: Any) -> _Read:
    check = _theirs.module(_UTILS)._validate_value_with_model_field

    def validate(raw: Any, values: dict[str, Any]) -> Any:
        value = None if raw is PydanticUndefined else raw
        return check(field=field, value=value, values=values, loc=("body",))

    return validate


def _accepts_none(field: ModelField) -> bool:
    schema = core_schema_of(field)
    if schema is None or runs_user_code(schema):
        return True
    return not field.validate(None, {}, loc=())[1]
