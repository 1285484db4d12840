"""Shapes: the core schemas whose values C can write as JSON without asking pydantic.

A `_core.Shape` is made of what pydantic's core schema says about types, if neither validating nor
dumping such a value runs anybody's code. The encoder (src/py/json/shape.c) looks at exact types
only: what it writes is what pydantic would have written; for any other value it declines, and
pydantic decides. So a schema that is not understood here costs speed, never a result.
"""

import math
import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from turboapi import _core
from turboapi._untouched import is_from

_Schema: TypeAlias = Mapping[str, Any]
_Node: TypeAlias = tuple[Any, ...]
_Checks: TypeAlias = bool | tuple[float, float]

_LEAVES = frozenset(
    {"str", "int", "float", "bool", "none", "any", "uuid", "date", "time", "datetime", "decimal"}
    | {"timedelta"}
)
# Those of which each value belongs to one at most, by its type.
_DISTINCT = _LEAVES - {"any"}
# What a schema may say without changing which values are valid, or how they are dumped.
_SILENT = frozenset({"type", "metadata", "ref", "schema"})
_SILENT_VALUES = {"microseconds_precision": "truncate", "strict": False, "frozen": None}
# Settings of a model that change neither (but for those, nothing of its config is known here).
_SILENT_CONFIG = frozenset(
    {"title", "from_attributes", "frozen", "hide_input_in_errors", "validate_assignment"}
    | {"cache_strings", "loc_by_alias", "regex_engine"}
)
# Those that say under which names a value is found.
_NAME_CONFIG = frozenset({"populate_by_name", "validate_by_name", "validate_by_alias"})
# Functions that validate: what they give is dumped as the schema below them says.
_VALIDATORS = frozenset({"function-after", "function-before", "function-wrap"})
_MODEL_KEYS = frozenset(
    {"type", "cls", "schema", "config", "custom_init", "root_model", "metadata", "ref"}
    | {"generic_origin", "post_init", "frozen"}
)
_FIELDS_KEYS = frozenset({"type", "fields", "model_name", "computed_fields"})
_DATACLASS_KEYS = frozenset(
    {"type", "cls", "schema", "fields", "config", "frozen", "post_init", "slots", "metadata", "ref"}
    | {"cls_name", "generic_origin"}
)
_DATACLASS_ARGS_KEYS = frozenset(
    {"type", "dataclass_name", "fields", "computed_fields", "collect_init_only"}
)
_DATACLASS_FIELD_KEYS = frozenset({"name", "init", "kw_only"})
_FIELD_KEYS = frozenset(
    {"type", "schema", "metadata", "validation_alias", "serialization_alias", "frozen"}
    | {"serialization_exclude"}
)


def _limits_of_lengths() -> dict[str, Callable[[Any], tuple[bool, Any]]]:
    return {"min_length": lambda n: (True, n), "max_length": lambda n: (False, n)}


# What says how small or great a value is at least or at most: (whether it is the lower end, which).
_LIMITS: dict[str, dict[str, Callable[[Any], tuple[bool, Any]]]] = {
    "str": _limits_of_lengths(),
    "list": _limits_of_lengths(),
    "tuple": _limits_of_lengths(),
    "dict": _limits_of_lengths(),
    "int": {
        "ge": lambda n: (True, n),
        "gt": lambda n: (True, n + 1),
        "le": lambda n: (False, n),
        "lt": lambda n: (False, n - 1),
    },
    "float": {
        "ge": lambda x: (True, x),
        "gt": lambda x: (True, math.nextafter(x, math.inf)),
        "le": lambda x: (False, x),
        "lt": lambda x: (False, math.nextafter(x, -math.inf)),
    },
}


class _UnknownError(Exception):
    """A schema that no shape is known for."""


def shape_of(
    schema: _Schema,
    *,
    by_alias: bool = True,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    exclude_none: bool = False,
    exclude_unset: bool = False,
) -> _core.Shape | None:
    """Return the shape of a core schema; None when pydantic has to do the work.

    The options are those of dumps. `include` and `exclude` hold names of fields only, and the
    schema is then that of a model.
    """
    compiler = _Compiler(by_alias, exclude_none, exclude_unset)
    try:
        node = compiler.node(schema)
        if include is not None or exclude is not None:
            node = _only(node, include, exclude)
        return compiler.shape(node)
    except (_UnknownError, LookupError, RecursionError):
        return None


def reads_dict(get: Any) -> bool:
    """Return whether a `__get__` is known to give what the instance's `__dict__` has.

    It is that of SQLAlchemy's columns, for values that are loaded.
    """
    home = sys.modules.get("sqlalchemy.orm.attributes")
    return (
        home is not None
        and is_from(get, home)
        and get.__qualname__ == "InstrumentedAttribute.__get__"
        and {"instance_dict", "impl", "supports_population", "key"} <= {*get.__code__.co_names}
        and isinstance(getattr(home, "instance_dict", None), operator.attrgetter)
    )


def shape_of_model(model: type[Any]) -> _core.Shape | None:
    """Return the shape that dumps instances of a model as jsonable_encoder has them dumped.

    None when there is none, or when the model has a `model_dump` of its own.
    """
    from pydantic import BaseModel

    if not issubclass(model, BaseModel) or model.model_dump is not BaseModel.model_dump:
        return None
    schema = model.__dict__.get("__pydantic_core_schema__")
    # Until all that a model refers to is defined, there is something else in its place.
    return shape_of(cast("_Schema", schema)) if isinstance(schema, dict) else None


class _Compiler:
    def __init__(self, by_alias: bool, exclude_none: bool, exclude_unset: bool) -> None:
        self.by_alias = by_alias
        self.exclude_none = exclude_none
        self.exclude_unset = exclude_unset
        self.definitions: dict[str, _Schema] = {}
        self.open: set[str] = set()

    def shape(self, node: _Node) -> _core.Shape:
        return _core.Shape(node, exclude_none=self.exclude_none, exclude_unset=self.exclude_unset)

    def node(self, schema: _Schema) -> _Node:
        if "serialization" in schema:
            raise _UnknownError
        kind = schema["type"]
        if kind in _LEAVES:
            return (kind, _checks(schema))
        if kind in _VALIDATORS:
            return _validating(self.node(schema["schema"]))
        method = getattr(self, "_" + kind.replace("-", "_"), None)
        if method is None:
            raise _UnknownError
        node: _Node = method(schema)
        return node

    def _nullable(self, schema: _Schema) -> _Node:
        return ("nullable", not _is_silent(schema), self.node(schema["schema"]))

    def _list(self, schema: _Schema) -> _Node:
        items = schema.get("items_schema", {"type": "any"})
        return ("list", _checks(schema, "items_schema"), self.node(items))

    def _tuple(self, schema: _Schema) -> _Node:
        items = schema["items_schema"]
        if len(items) != 1 or schema.get("variadic_item_index") != 0:
            raise _UnknownError  # what each place has is validated on its own
        checks = _checks(schema, "items_schema", "variadic_item_index")
        return ("tuple", checks, self.node(items[0]))

    def _set(self, schema: _Schema) -> _Node:
        items = self.node(schema.get("items_schema", {"type": "any"}))
        # Others may be equal to one another, or have code for that.
        if items[0] not in ("str", "int"):
            raise _UnknownError
        return (schema["type"], _checks(schema, "items_schema"), items)

    _frozenset = _set

    def _union(self, schema: _Schema) -> _Node:
        choices = schema["choices"]
        if not all(isinstance(each, dict) for each in choices):
            raise _UnknownError  # with labels
        kinds = [each["type"] for each in choices]
        if not {*kinds} <= _DISTINCT or len({*kinds}) < len(kinds):
            raise _UnknownError
        if not all(map(_is_silent, choices)) or not _is_silent(schema, "choices"):
            raise _UnknownError
        return ("union", False, tuple(map(self.node, choices)))

    def _dict(self, schema: _Schema) -> _Node:
        values = schema.get("values_schema", {"type": "any"})
        keys = schema.get("keys_schema", {"type": "any"})
        # Of other keys nothing is said here: the encoder takes exact strings only.
        if self.node(keys)[0] not in ("str", "any"):
            raise _UnknownError
        checks = _checks(schema, "keys_schema", "values_schema")
        return ("dict", checks if _is_silent(keys) else True, self.node(values))

    def _enum(self, schema: _Schema) -> _Node:
        members = schema["members"]
        if any(type(member.value) not in (str, int) for member in members):
            raise _UnknownError
        strict = schema.get("strict")
        rows = ((each, None if strict else each.value, _dumps(each.value)) for each in members)
        return ("choice", False, tuple(rows))

    def _literal(self, schema: _Schema) -> _Node:
        expected = schema["expected"]
        if any(type(value) not in (str, int, bool, type(None)) for value in expected):
            raise _UnknownError
        if len(set(map(type, expected))) > 1 or "strict" in schema:
            raise _UnknownError  # 1 and True are equal
        plain = (str, int)
        rows = ((each, each if type(each) in plain else None, _dumps(each)) for each in expected)
        return ("choice", False, tuple(rows))

    def _default(self, schema: _Schema) -> _Node:
        return self.node(schema["schema"])

    def _definitions(self, schema: _Schema) -> _Node:
        for definition in schema["definitions"]:
            self.definitions[definition["ref"]] = definition
        return self.node(schema["schema"])

    def _definition_ref(self, schema: _Schema) -> _Node:
        ref = schema["schema_ref"]
        if ref in self.open or ref not in self.definitions:
            raise _UnknownError  # a model that has itself in it
        self.open.add(ref)
        try:
            return self.node(self.definitions[ref])
        finally:
            self.open.discard(ref)

    def _model(self, schema: _Schema) -> _Node:
        fields = schema["schema"]
        config: _Schema = schema.get("config") or {}
        if not (
            schema.keys() <= _MODEL_KEYS
            and not schema.get("root_model")
            and fields["type"] == "model-fields"
            and fields.keys() <= _FIELDS_KEYS
            and not fields.get("computed_fields")
            and not config.keys() - _SILENT_CONFIG - _NAME_CONFIG - {"extra_fields_behavior"}
            and config.get("extra_fields_behavior", "ignore") in ("ignore", "forbid")
        ):
            raise _UnknownError
        # An instance is taken as it is; only a dict would meet these.
        from_dict = not (
            schema.get("custom_init")
            or schema.get("post_init")
            or config.get("extra_fields_behavior") == "forbid"
        )
        rows = tuple(self._field(name, each, config) for name, each in fields["fields"].items())
        return ("model", False, schema["cls"], from_dict, rows)

    def _dataclass(self, schema: _Schema) -> _Node:
        args = schema["schema"]
        config: _Schema = schema.get("config") or {}
        if not (
            schema.keys() <= _DATACLASS_KEYS
            and args["type"] == "dataclass-args"
            and args.keys() <= _DATACLASS_ARGS_KEYS
            and not args.get("computed_fields")
            and not args.get("collect_init_only")
            and not config.keys() - _SILENT_CONFIG
        ):
            raise _UnknownError
        fields = {field["name"]: field for field in args["fields"]}
        rows: list[_Node] = []
        for name in schema["fields"]:
            field = {**fields[name]}
            for key in _DATACLASS_FIELD_KEYS:
                field.pop(key, None)
            rows.append(self._field(name, field, config))
        return ("dataclass", False, schema["cls"], False, tuple(rows))

    def _field(self, name: str, field: _Schema, config: _Schema) -> _Node:
        if not field.keys() <= _FIELD_KEYS:
            raise _UnknownError
        key = _key(field.get("validation_alias", name), name, config)
        alias = field.get("serialization_alias", name) if self.by_alias else name
        if alias.startswith("_sa"):
            raise _UnknownError  # jsonable_encoder drops it
        schema = field["schema"]
        node = self.node(schema)
        text = None if field.get("serialization_exclude") else _dumps(alias) + b":"
        default = self._default_of(schema, node)
        return (name, key, node, text, default)

    def _default_of(self, schema: _Schema, node: _Node) -> bytes | None:
        """Return the JSON of what an absent key results in; None when pydantic must decide."""
        if schema["type"] != "default" or not _is_silent(
            schema, "default", "default_factory", "default_factory_takes_data", "copy_default"
        ):
            return None
        value = schema.get("default", ...)
        factory: Any = schema.get("default_factory")
        if factory is not None:
            value = cast("Any", factory()) if factory in (list, dict) else ...
        # What is neither validated nor of the type makes pydantic warn.
        return None if value is ... else self.shape(node).encode(value, trusted=True)


def _is_silent(schema: _Schema, *parts: str) -> bool:
    """Return whether a schema says nothing but its type (and these parts, looked at elsewhere)."""
    return all(
        key in _SILENT or key in parts or _SILENT_VALUES.get(key, ...) == value
        for key, value in schema.items()
    )


def _key(alias: object, name: str, config: _Schema) -> str | tuple[str, str] | None:
    """Return where a validator looks for a field: what it takes first, and else."""
    if not isinstance(alias, str):
        return None
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    if config.get("validate_by_alias") is False:
        return name if by_name else None
    return (alias, name) if by_name and alias != name else alias


def _checks(schema: _Schema, *parts: str) -> _Checks:
    """Return what the validator of a schema checks besides the type (shape_read.c)."""
    limits = _LIMITS.get(schema["type"])
    if limits is None or limits.keys().isdisjoint(schema):
        return not _is_silent(schema, *parts)
    if not _is_silent(schema, *parts, *limits):
        return True
    floats = schema["type"] == "float"
    low, high = (-math.inf, math.inf) if floats else (-(2**63), 2**63 - 1)
    for name, bound in limits.items():
        value = schema.get(name)
        if value is None:
            continue
        if type(value) is not int and not (floats and type(value) is float and value == value):
            return True
        is_low, limit = bound(float(value) if floats else value)
        low, high = (max(low, limit), high) if is_low else (low, min(high, limit))
    return (low, high) if low <= high else True


def _only(node: _Node, include: Iterable[str] | None, exclude: Iterable[str] | None) -> _Node:
    """Return the node of a model with the texts of these fields only."""
    if node[0] == "nullable":
        return (*node[:2], _only(node[2], include, exclude))
    if node[0] != "model":
        raise _UnknownError
    rows: list[_Node] = []
    for name, key, inner, text, default in node[4]:
        kept = (include is None or name in include) and (exclude is None or name not in exclude)
        rows.append((name, key, inner, text if kept else None, default))
    return (*node[:4], tuple(rows))


def _validating(node: _Node) -> _Node:
    return (node[0], True, *node[2:])


def _dumps(value: str | int | None) -> bytes:
    text = _core.encode_json(value)
    if text is None:  # a lone surrogate
        raise _UnknownError
    return text
