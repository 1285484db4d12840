"""The declarations of parameters, as classes; ``param_functions`` has them as functions for apps.

All eight share one table of options, `FieldOptions`; each class only says where it differs.
"""

import functools
import inspect
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, AliasPath, Discriminator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined as Undefined
from typing_extensions import TypedDict, Unpack, deprecated

from turboapi.concurrency import _DependencyConcurrency
from turboapi.datastructures import _Unset
from turboapi.exceptions import FastAPIDeprecationWarning

if TYPE_CHECKING:
    from turboapi.openapi.models import Example

_F = TypeVar("_F", bound=Callable[..., Any])


class ParamTypes(Enum):
    """Where a parameter is found, as OpenAPI names it."""

    query = "query"
    header = "header"
    path = "path"
    cookie = "cookie"


class FieldOptions(TypedDict, total=False):
    """The keywords of every declaration, in the order of their signature.

    Most are pydantic's own (https://docs.pydantic.dev/latest/api/fields/#pydantic.fields.Field).
    ``examples`` goes into the JSON schema, ``openapi_examples`` into the OpenAPI parameter;
    ``include_in_schema=False`` hides the parameter.
    """

    default_factory: Callable[[], Any] | None
    alias: str | None
    alias_priority: int | None
    validation_alias: str | AliasPath | AliasChoices | None
    serialization_alias: str | None
    title: str | None
    description: str | None
    gt: float | None
    ge: float | None
    lt: float | None
    le: float | None
    min_length: int | None
    max_length: int | None
    pattern: str | re.Pattern[str] | None
    regex: Annotated[
        str | None,
        deprecated("Deprecated in FastAPI 0.100.0 and Pydantic v2, use `pattern` instead."),
    ]
    discriminator: str | Discriminator | None
    strict: bool | None
    validate_default: bool | None
    union_mode: Literal["smart", "left_to_right"] | None
    fail_fast: bool | None
    multiple_of: float | None
    allow_inf_nan: bool | None
    max_digits: int | None
    decimal_places: int | None
    examples: list[Any] | None
    example: Annotated[
        Any | None,
        deprecated(
            "Deprecated in OpenAPI 3.1.0 that now uses JSON Schema 2020-12, "
            "although still supported. Use examples instead."
        ),
    ]
    openapi_examples: "dict[str, Example] | None"
    deprecated: deprecated | str | bool | None
    include_in_schema: bool
    json_schema_extra: dict[str, Any] | Callable[[dict[str, Any]], None] | None


class InfoOptions(FieldOptions, total=False):
    """The keywords of the classes, which also know the annotation."""

    annotation: Any | None


# Options whose default is not "not given".
_NONE = ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern")
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys((*_NONE, "annotation", "regex", "openapi_examples")),
    "include_in_schema": True,
}
_OPTIONS = FieldOptions.__annotations__
_ALLOWED = frozenset(_OPTIONS) | {"annotation"}
_NOT_PYDANTIC = frozenset({"regex", "example", "openapi_examples", "include_in_schema"})


@functools.cache
def _keyword(name: str) -> inspect.Parameter:
    """Return an option as signatures have it; the same one for all of them."""
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=_DEFAULTS.get(name, _Unset),
        annotation=_OPTIONS.get(name, Any | None),
    )


def with_options(*extra_after: str, annotation: bool = False) -> Callable[[_F], _F]:
    """Spell out ``**options`` in the signature that ``inspect`` shows.

    The function's own keywords are put before ``alias``, or behind the option that
    ``extra_after`` names.
    """

    def apply(func: _F) -> _F:
        signature = inspect.signature(func)
        own = list(signature.parameters.values())[:-1]  # without **options
        names = ["default_factory"]
        names += ["annotation"] if annotation else []
        names += [name for name in _OPTIONS if name != "default_factory"]
        options = [_keyword(name) for name in names]
        behind = extra_after[0] if extra_after else names[0 if not annotation else 1]
        at = 1 + next(i for i, option in enumerate(options) if option.name == behind)
        keywords = [p for p in own if p.kind is p.KEYWORD_ONLY]
        func.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[
                *(p for p in own if p.kind is not p.KEYWORD_ONLY),
                *options[:at],
                *keywords,
                *options[at:],
            ]
        )
        return func

    return apply


def _warn_deprecated(name: str, instead: str) -> None:
    # Five frames up: this, _init, __init__, the function in param_functions, its caller.
    warnings.warn(
        f"`{name}` has been deprecated, please use `{instead}` instead",
        category=FastAPIDeprecationWarning,
        stacklevel=5,
    )


class _Declaration(FieldInfo):  # type: ignore[misc]
    """What parameters and bodies have in common: options made into a pydantic FieldInfo."""

    example: Any | None
    include_in_schema: bool
    openapi_examples: "dict[str, Example] | None"

    def _init(self, default: Any, options: dict[str, Any]) -> None:
        if not options.keys() <= _ALLOWED:
            name = next(name for name in options if name not in _ALLOWED)
            raise TypeError(
                f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}"
            )
        get = options.get
        self.example = get("example", _Unset)
        self.include_in_schema = get("include_in_schema", True)
        self.openapi_examples = get("openapi_examples")
        if self.example is not _Unset:
            _warn_deprecated("example", "examples")
        regex = get("regex")
        if regex is not None:
            _warn_deprecated("regex", "pattern")
        # pydantic tells options that were set, even to None, from those that were not.
        info: dict[str, Any] = dict.fromkeys(_NONE)
        info["annotation"] = None
        for name, value in options.items():
            if value is not _Unset and name not in _NOT_PYDANTIC:
                info[name] = value
        info["default"] = default
        info["pattern"] = info["pattern"] or regex
        alias = get("alias", _Unset)
        if isinstance(alias, str):
            if info.get("serialization_alias") is None:
                info["serialization_alias"] = alias
            if info.get("validation_alias") is None:
                info["validation_alias"] = alias
        elif alias is None and info.get("validation_alias") is None:
            info["validation_alias"] = None
        super().__init__(**info)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.default})"


class Param(_Declaration):  # type: ignore[misc]
    """A parameter outside the body.  ``in_`` says where it is looked for."""

    in_: ParamTypes

    @with_options(annotation=True)
    def __init__(self, default: Any = Undefined, **options: Unpack[InfoOptions]) -> None:
        self._init(default, options)  # type: ignore[arg-type]


class Path(Param):  # type: ignore[misc]
    """A part of the path; always required."""

    in_ = ParamTypes.path

    @with_options(annotation=True)
    def __init__(self, default: Any = ..., **options: Unpack[InfoOptions]) -> None:
        assert default is ..., "Path parameters cannot have a default value"
        self._init(default, options)  # type: ignore[arg-type]


class Query(Param):  # type: ignore[misc]
    """A parameter of the query string."""

    in_ = ParamTypes.query


class Header(Param):  # type: ignore[misc]
    """A header; its name is the parameter's with ``-`` for ``_``, if ``convert_underscores``."""

    in_ = ParamTypes.header

    @with_options("serialization_alias", annotation=True)
    def __init__(
        self,
        default: Any = Undefined,
        *,
        convert_underscores: bool = True,
        **options: Unpack[InfoOptions],
    ) -> None:
        self.convert_underscores = convert_underscores
        self._init(default, options)  # type: ignore[arg-type]


class Cookie(Param):  # type: ignore[misc]
    """A cookie."""

    in_ = ParamTypes.cookie


class Body(_Declaration):  # type: ignore[misc]
    """The JSON body, or with ``embed`` one key of it."""

    @with_options(annotation=True)
    def __init__(
        self,
        default: Any = Undefined,
        *,
        embed: bool | None = None,
        media_type: str = "application/json",
        **options: Unpack[InfoOptions],
    ) -> None:
        self.embed = embed
        self.media_type = media_type
        self._init(default, options)  # type: ignore[arg-type]


class Form(Body):  # type: ignore[misc]
    """A field of a form."""

    @with_options(annotation=True)
    def __init__(
        self,
        default: Any = Undefined,
        *,
        media_type: str = "application/x-www-form-urlencoded",
        **options: Unpack[InfoOptions],
    ) -> None:
        self.embed: bool | None = None
        self.media_type = media_type
        self._init(default, options)  # type: ignore[arg-type]


class File(Form):  # type: ignore[misc]
    """A file of a multipart form."""

    @with_options(annotation=True)
    def __init__(
        self,
        default: Any = Undefined,
        *,
        media_type: str = "multipart/form-data",
        **options: Unpack[InfoOptions],
    ) -> None:
        self.embed: bool | None = None
        self.media_type = media_type
        self._init(default, options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Depends:
    """A dependency: a callable whose parameters are resolved like a handler's.

    ValueError for a ``max_concurrency`` below 1.

    See https://fastapi.tiangolo.com/tutorial/dependencies/.
    """

    dependency: Callable[..., Any] | None = None
    use_cache: bool = True
    scope: Literal["function", "request"] | None = None
    max_concurrency: int | None = field(default=None, kw_only=True)
    # What calls of this one declaration share.  It is part of the comparison, so that two equal
    # limits are not merged, and an init field, so that dataclasses.replace() keeps it.
    _concurrency: _DependencyConcurrency | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        limit = self.max_concurrency
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError("max_concurrency must be a positive integer or None")
        if limit is None:
            shared = None
        elif self._concurrency is not None and self._concurrency.max_concurrency == limit:
            shared = self._concurrency
        else:
            shared = _DependencyConcurrency(limit)
        object.__setattr__(self, "_concurrency", shared)


@dataclass(frozen=True)
class Security(Depends):
    """A dependency with OAuth2 scopes.

    See https://fastapi.tiangolo.com/advanced/security/oauth2-scopes/.
    """

    scopes: Sequence[str] | None = None
