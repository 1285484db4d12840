"""`jsonable_encoder`: any object as data that JSON has.

See https://fastapi.tiangolo.com/tutorial/encoder/.
"""

import dataclasses
import datetime
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from importlib import import_module
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path, PurePath
from re import Pattern
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from pydantic import BaseModel
from pydantic.types import SecretBytes, SecretStr
from pydantic_core import PydanticUndefinedType

from turboapi._compat import Url, is_pydantic_v1_model_instance
from turboapi.exceptions import PydanticV1NotSupportedError
from turboapi.types import IncEx

if TYPE_CHECKING:
    ENCODERS_BY_TYPE: dict[type[Any], Callable[[Any], Any]]

_Encoders = dict[Any, Callable[[Any], Any]]


def isoformat(o: datetime.date | datetime.time) -> str:
    """Return the text of ISO 8601."""
    return o.isoformat()


def decimal_encoder(dec_value: Decimal) -> int | float:
    """Return an int when there are no decimal places, so that a whole number stays one.

    >>> decimal_encoder(Decimal("1")), decimal_encoder(Decimal("1.0"))
    (1, 1.0)
    """
    exponent = dec_value.as_tuple().exponent
    # Of NaN and infinity the exponent is a letter.
    return int(dec_value) if isinstance(exponent, int) and exponent >= 0 else float(dec_value)


_BY_TYPE: dict[type[Any], Callable[[Any], Any]] = {
    bytes: lambda o: o.decode(),
    datetime.date: isoformat,
    datetime.datetime: isoformat,
    datetime.time: isoformat,
    datetime.timedelta: lambda o: o.total_seconds(),
    Decimal: decimal_encoder,
    Enum: lambda o: o.value,
    Pattern: lambda o: o.pattern,
    **dict.fromkeys((frozenset, deque, GeneratorType, set), list),
    **dict.fromkeys((IPv4Address, IPv4Interface, IPv4Network), str),
    **dict.fromkeys((IPv6Address, IPv6Interface, IPv6Network), str),
    **dict.fromkeys((Path, SecretBytes, SecretStr, UUID, Url), str),
}

# Types whose modules take long to import. Without the module there is no such object.
_ELSEWHERE = {
    "pydantic.networks": ("NameEmail", "AnyUrl"),
    "pydantic.color": ("Color",),  # deprecated, but some still have it
    "pydantic_extra_types.color": ("Color",),
}


def _add_imported() -> None:
    """Add the types of `_ELSEWHERE` whose modules have been imported by now."""
    for name, classes in list(_ELSEWHERE.items()):  # other threads may do the same meanwhile
        module = sys.modules.get(name)
        found = [getattr(module, each, None) for each in classes]
        if None in found:  # it is not imported, or not to its end
            continue
        _BY_TYPE.update(dict.fromkeys(cast("list[type[Any]]", found), str))
        encoders_by_class_tuples[str] = (*encoders_by_class_tuples[str], *found)
        _ELSEWHERE.pop(name, None)


def generate_encoders_by_class_tuples(
    type_encoder_map: _Encoders,
) -> dict[Callable[[Any], Any], tuple[Any, ...]]:
    """Return the map turned round, for ``isinstance`` with many classes at once."""
    result: dict[Callable[[Any], Any], tuple[Any, ...]] = {}
    for type_, encoder in type_encoder_map.items():
        result[encoder] = (*result.get(encoder, ()), type_)
    return result


encoders_by_class_tuples = generate_encoders_by_class_tuples(_BY_TYPE)


def __getattr__(name: str) -> Any:
    """Return `ENCODERS_BY_TYPE`, complete: who asks for it may look up any type."""
    if name != "ENCODERS_BY_TYPE":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in list(_ELSEWHERE):
        with suppress(ImportError):
            import_module(module)
    _add_imported()
    return _BY_TYPE


def __dir__() -> list[str]:
    return sorted({*globals(), "ENCODERS_BY_TYPE"})


_PLAIN = frozenset({str, int, float, bool, type(None)})


class _Encoder:
    """One call of `jsonable_encoder`: the options that hold at every depth."""

    __slots__ = ("by_alias", "custom", "defaults", "none", "sqlalchemy_safe", "unset")

    def __init__(
        self,
        by_alias: bool,
        exclude_unset: bool,
        exclude_defaults: bool,
        exclude_none: bool,
        custom_encoder: _Encoders,
        sqlalchemy_safe: bool,
    ) -> None:
        self.by_alias = by_alias
        self.unset = exclude_unset
        self.defaults = exclude_defaults
        self.none = exclude_none
        self.custom = custom_encoder
        self.sqlalchemy_safe = sqlalchemy_safe

    def encode(self, obj: Any, include: Any = None, exclude: Any = None) -> Any:
        kind = type(obj)  # pyright: ignore[reportUnknownVariableType]
        if self.custom:
            if kind in self.custom:
                return self.custom[kind](obj)
            for base, encoder in self.custom.items():
                if isinstance(obj, base):
                    return encoder(obj)
        if kind in _PLAIN:
            return obj
        if isinstance(obj, BaseModel):
            return self._model(obj, include, exclude)
        if dataclasses.is_dataclass(obj):
            assert not isinstance(obj, type)
            return self.encode(dataclasses.asdict(obj), include, exclude)
        if isinstance(obj, Enum):
            return obj.value
        if isinstance(obj, PurePath):
            return str(obj)
        if isinstance(obj, (str, int, float)):
            return obj
        if isinstance(obj, PydanticUndefinedType):
            return None
        if isinstance(obj, dict):
            return self._dict(
                obj,  # pyright: ignore[reportUnknownArgumentType]
                include,
                exclude,
            )
        if isinstance(obj, (list, set, frozenset, GeneratorType, tuple, deque)):
            return [
                self.encode(item, include, exclude)
                for item in obj  # pyright: ignore[reportUnknownVariableType]
            ]
        if _ELSEWHERE and kind not in _BY_TYPE:
            _add_imported()
        if kind in _BY_TYPE:
            return _BY_TYPE[kind](obj)
        for encoder, classes in encoders_by_class_tuples.items():
            if isinstance(obj, classes):
                return encoder(obj)
        return self.encode(_as_dict(obj), include, exclude)

    def _model(self, obj: BaseModel, include: Any, exclude: Any) -> Any:
        data = obj.model_dump(
            mode="json",
            include=_as_incex(include),
            exclude=_as_incex(exclude),
            by_alias=self.by_alias,
            exclude_unset=self.unset,
            exclude_none=self.none,
            exclude_defaults=self.defaults,
        )
        # The model has had its say; only what concerns any dict is left.
        rest = _Encoder(True, False, self.defaults, self.none, {}, self.sqlalchemy_safe)
        return rest.encode(data)

    def _dict(self, obj: dict[Any, Any], include: Any, exclude: Any) -> dict[Any, Any]:
        encode = self.encode
        included = None if include is None else set(include)
        excluded = () if exclude is None else set(exclude)
        if type(obj) is not dict:
            # Of a subclass, only what both of its methods tell of.
            known = set(obj.keys())
            included = known if included is None else included & known
        result: dict[Any, Any] = {}
        for key, value in obj.items():
            if (
                (value is None and self.none)
                or (included is not None and key not in included)
                or key in excluded
                or (self.sqlalchemy_safe and isinstance(key, str) and key.startswith("_sa"))
            ):
                continue
            # Keys first: a key that can't be encoded is reported before its value.
            encoded_key = encode(key)
            result[encoded_key] = encode(value)
        return result


def _as_incex(keys: Any) -> Any:
    if keys is None or isinstance(keys, (set, dict)):
        return keys  # pyright: ignore[reportUnknownVariableType]
    return set(keys)


def _as_dict(obj: Any) -> Any:
    if is_pydantic_v1_model_instance(obj):
        raise PydanticV1NotSupportedError(
            "pydantic.v1 models are no longer supported by FastAPI."
            f" Please update the model {obj!r}."
        )
    try:
        return dict(obj)
    except Exception as not_a_mapping:
        try:
            return vars(cast("object", obj))
        except Exception as no_attributes:
            raise ValueError([not_a_mapping, no_attributes]) from no_attributes


def jsonable_encoder(
    obj: Any,
    include: IncEx | None = None,
    exclude: IncEx | None = None,
    by_alias: bool = True,
    exclude_unset: bool = False,
    exclude_defaults: bool = False,
    exclude_none: bool = False,
    custom_encoder: dict[Any, Callable[[Any], Any]] | None = None,
    sqlalchemy_safe: bool = True,
) -> Any:
    """``obj`` as dicts, lists, strings, numbers, booleans and None.

    ``include``, ``exclude``, ``by_alias`` and ``exclude_*`` are those of pydantic's
    ``model_dump``, ``include`` and ``exclude`` for keys of a dict too.  ``custom_encoder`` maps
    types to functions that are asked first.  ``sqlalchemy_safe`` leaves out keys that start
    with ``_sa``.  ValueError for what is neither a mapping nor has attributes.
    """
    encoder = _Encoder(
        by_alias,
        exclude_unset,
        exclude_defaults,
        exclude_none,
        custom_encoder or {},
        sqlalchemy_safe,
    )
    return encoder.encode(obj, include, exclude)
