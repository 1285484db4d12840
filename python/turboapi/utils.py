"""Small helpers of several modules."""

import re
import warnings
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic.fields import FieldInfo

from turboapi._compat import (
    ModelField,
    PydanticSchemaGenerationError,
    Undefined,
    annotation_is_pydantic_v1,
)
from turboapi.datastructures import DefaultPlaceholder, DefaultType
from turboapi.exceptions import (
    FastAPIDeprecationWarning,
    FastAPIError,
    PydanticV1NotSupportedError,
)

if TYPE_CHECKING:
    from turboapi.routing import APIRoute

_STATUS_PATTERNS = frozenset({"default", "1XX", "2XX", "3XX", "4XX", "5XX"})
_INVALID_FIELD = (
    "Invalid args for response field! Hint: "
    "check that {type_} is a valid Pydantic field type. "
    "If you are using a return type annotation that is not a valid Pydantic "
    "field (e.g. Union[Response, dict, None]) you can disable generating the "
    "response model from the type annotation with the path operation decorator "
    "parameter response_model=None. Read more: "
    "https://fastapi.tiangolo.com/tutorial/response-model/"
)


def is_body_allowed_for_status_code(status_code: int | str | None) -> bool:
    """Return whether a response of this status, or OpenAPI status pattern, may have a body."""
    if status_code is None or status_code in _STATUS_PATTERNS:
        return True
    code = int(status_code)
    return code >= 200 and code not in (204, 205, 304)


def get_path_param_names(path: str) -> set[str]:
    """Return the names in the braces of a path; with convertors, as they stand there."""
    return set(re.findall("{(.*?)}", path))


def create_model_field(
    name: str,
    type_: Any,
    default: Any | None = Undefined,
    field_info: FieldInfo | None = None,
    alias: str | None = None,
    mode: Literal["validation", "serialization"] = "validation",
) -> ModelField:
    """Return a field of that type; FastAPIError when pydantic does not take it for one."""
    if annotation_is_pydantic_v1(type_):
        raise PydanticV1NotSupportedError(
            "pydantic.v1 models are no longer supported by FastAPI."
            f" Please update the response model {type_!r}."
        )
    info = field_info or FieldInfo(annotation=type_, default=default, alias=alias)
    try:
        return ModelField(mode=mode, name=name, field_info=info)
    except PydanticSchemaGenerationError:
        raise FastAPIError(_INVALID_FIELD.format(type_=type_)) from None


def _operation_id(name: str, path: str, method: str) -> str:
    return re.sub(r"\W", "_", f"{name}{path}") + f"_{method.lower()}"


def generate_operation_id_for_path(*, name: str, path: str, method: str) -> str:
    """Return a default operation id. Deprecated: the framework does not use it."""
    warnings.warn(
        message="fastapi.utils.generate_operation_id_for_path() was deprecated, "
        "it is not used internally, and will be removed soon",
        category=FastAPIDeprecationWarning,
        stacklevel=2,
    )
    return _operation_id(name, path, method)


def generate_unique_id(route: "APIRoute") -> str:
    """Return the default ``operationId``: name, path and one method."""
    assert route.methods
    return _operation_id(route.name, route.path_format, next(iter(route.methods)))


def deep_dict_update(main_dict: dict[Any, Any], update_dict: dict[Any, Any]) -> None:
    """Merge in place: dicts are merged, lists joined, everything else replaced."""
    for key, value in update_dict.items():
        old = main_dict.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            deep_dict_update(cast("Any", old), cast("Any", value))
        elif isinstance(old, list) and isinstance(value, list):
            main_dict[key] = old + value
        else:
            main_dict[key] = value


def get_value_or_default(
    first_item: DefaultPlaceholder | DefaultType,
    *extra_items: DefaultPlaceholder | DefaultType,
) -> DefaultPlaceholder | DefaultType:
    """Return the first item that somebody set; when there is none, the first."""
    for item in (first_item, *extra_items):
        if not isinstance(item, DefaultPlaceholder):
            return item
    return first_item
