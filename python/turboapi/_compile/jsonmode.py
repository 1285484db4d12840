"""What a pydantic core schema allows: reading raw JSON, and being run twice.

Reading the bytes of a body at once saves building Python objects first, but pydantic's JSON mode
differs in places: strict types accept text, members of unions weigh differently, a Decimal sees
the digits.  Only schemas made of the types named here are known to give the same.
"""

from collections.abc import Iterator, Sequence
from types import BuiltinFunctionType
from typing import Any, cast

from turboapi._compat import PYDANTIC_VERSION_MINOR_TUPLE

_Schema = dict[str, Any]

# Types that JSON has itself: in a union they weigh the same in both modes.
_NATIVE_LEAVES = frozenset({"str", "int", "float", "bool", "none", "any"})
# Types that are read from a text or number, the same in both modes, but are no exact match then.
_OTHER_LEAVES = frozenset({"date", "datetime", "time", "timedelta", "uuid", "enum"})
# Types that have parts under these keys, and which are as equal as their parts.
_NATIVE_PARTS = {
    "default": ("schema",),
    "nullable": ("schema",),
    "model": ("schema",),
    "model-field": ("schema",),
    "model-fields": ("fields", "extras_schema", "extras_keys_schema"),
    "typed-dict": ("fields", "extras_schema"),
    "typed-dict-field": ("schema",),
    "list": ("items_schema",),
    "dict": ("values_schema",),
    "tagged-union": ("choices",),
    "definitions": ("schema", "definitions"),
}
_OTHER_PARTS = {
    "dataclass": ("schema",),
    "dataclass-args": ("fields",),
    "dataclass-field": ("schema",),
    "set": ("items_schema",),
    "frozenset": ("items_schema",),
    "tuple": ("items_schema",),
}
# Settings, of a type or in a config, with which the two ways of reading differ.
_UNEQUAL = ("strict", "coerce_numbers_to_str", "init_var", "init_only")
# Keys below which there are no validators: these parts of a schema are not checked.
_NOT_VALIDATION = frozenset(
    {"serialization", "metadata", "config", "default", "expected", "members", "computed_fields"}
)


def _children(value: Any) -> Iterator[_Schema]:
    """Yield the schemas in the value of a key: one, a list of them, or a dict of them by name."""
    if isinstance(value, dict):
        schema = cast("dict[str, Any]", value)
        if isinstance(schema.get("type"), str):
            yield schema
        else:
            for item in schema.values():
                yield from _children(item)
    elif isinstance(value, (list, tuple)):
        for item in cast("Sequence[Any]", value):
            yield from _children(item)


def json_mode_is_equal(schema: Any) -> bool:
    """Return whether ``validate_json(x)`` has the result of ``validate_python(json.loads(x))``
    wherever it succeeds.

    One thing is left to the caller: numbers of 309 digits or more, which become infinity here and
    an error there.
    """
    if PYDANTIC_VERSION_MINOR_TUPLE < (2, 11):
        return False  # of equal keys in an object these versions take another one than json.loads
    return _is_equal(schema, native=_has_union(schema))


def _has_union(schema: _Schema) -> bool:
    # A definition may be part of a union that only refers to it, so it is asked of the whole.
    return schema["type"] == "union" or any(
        _has_union(child)
        for key, value in schema.items()
        if key not in _NOT_VALIDATION
        for child in _children(value)
    )


def _has_object(schema: _Schema) -> bool:
    if schema["type"] == "list":
        return any(map(_has_object, _children(schema.get("items_schema"))))
    if schema["type"] in ("default", "nullable"):
        return _has_object(schema["schema"])
    return schema["type"] not in ("str", "int", "float", "bool", "none", "literal")


def _is_equal(schema: _Schema, *, native: bool) -> bool:
    kind = schema["type"]
    config: dict[str, Any] = schema.get("config") or {}
    if any(schema.get(key) or config.get(key) for key in _UNEQUAL):
        return False
    if kind in _NATIVE_LEAVES or (kind in _OTHER_LEAVES and not native):
        return True
    if kind == "literal":
        return all(type(value) in (str, int, bool) for value in schema["expected"])
    if kind == "dict" and schema.get("keys_schema", {"type": "str"})["type"] not in ("str", "any"):
        return False
    if kind == "union":
        # Models are chosen by the number of fields that are set; some versions count those that
        # the text has twice.  So not more than one choice may be an object.
        if sum(map(_has_object, _children(schema["choices"]))) > 1:
            return False
        parts: Any = ("choices",)
    else:
        parts = _NATIVE_PARTS.get(kind) or (None if native else _OTHER_PARTS.get(kind))
        if parts is None:
            return bool(kind == "definition-ref")
    return all(
        _is_equal(child, native=native) for part in parts for child in _children(schema.get(part))
    )


def runs_user_code(schema: Any) -> bool:
    """Return whether validating calls a function that could notice that it is called again."""
    kind = schema["type"]
    if kind.startswith("function-") and not _is_known(schema["function"].get("function")):
        return True
    if schema.get("custom_init") or schema.get("post_init") or schema.get("missing"):
        return True
    if kind == "tagged-union" and callable(schema["discriminator"]):
        return True
    if not _is_known(schema.get("default_factory")):
        return True
    # Newer versions of pydantic ask the class itself for values that it does not have.
    if kind == "enum" and not _is_known(getattr(schema["cls"], "_missing_", None)):
        return True
    return any(
        runs_user_code(child)
        for key, value in schema.items()
        if key not in _NOT_VALIDATION
        for child in _children(value)
    )


def _is_known(function: Any) -> bool:
    """Nothing, a type or function of the interpreter, or one of pydantic's own."""
    if function is None or isinstance(function, BuiltinFunctionType):
        return True
    module = getattr(function, "__module__", None) or ""
    return module in ("builtins", "uuid", "datetime", "enum") or module.startswith("pydantic")
