"""The ``form_limits`` setting of apps, routers and routes."""

from typing import Any

from pydantic import ConfigDict, NonNegativeInt, TypeAdapter, with_config
from typing_extensions import TypedDict


@with_config(ConfigDict(strict=True, extra="forbid"))
class _FormLimits(TypedDict, total=False):
    """Limits of forms parsed for `Form`, `File` and `UploadFile` parameters."""

    max_fields: NonNegativeInt
    max_files: NonNegativeInt
    max_part_size: NonNegativeInt


def _validate_form_limits(limits: Any) -> _FormLimits:
    """Return the checked copy of a setting; pydantic's ValidationError for a bad one."""
    # The adapter is made when a limit is: most apps have none.
    return {} if limits is None else TypeAdapter(_FormLimits).validate_python(limits)
