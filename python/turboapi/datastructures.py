"""Uploaded files, Starlette's data structures, and the marker of defaults that nobody set."""

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeVar

from pydantic import GetJsonSchemaHandler
from pydantic_core.core_schema import with_info_plain_validator_function
from starlette.datastructures import URL as URL
from starlette.datastructures import Address as Address
from starlette.datastructures import FormData as FormData
from starlette.datastructures import Headers as Headers
from starlette.datastructures import QueryParams as QueryParams
from starlette.datastructures import State as State
from starlette.datastructures import UploadFile as StarletteUploadFile


class UploadFile(StarletteUploadFile):
    """A file of a multipart form, as the annotation of a parameter.

    The methods are awaitable and run in the thread pool when the file is on disk;
    ``file`` is the plain Python file for ``def`` handlers.

    See https://fastapi.tiangolo.com/tutorial/request-files/.
    """

    file: BinaryIO
    filename: str | None
    size: int | None
    headers: Headers
    content_type: str | None  # pyright: ignore[reportIncompatibleMethodOverride]

    async def write(self, data: bytes) -> None:
        """Write ``data`` at the current position."""
        await super().write(data)

    async def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes; all that is left by default."""
        return await super().read(size)

    async def seek(self, offset: int) -> None:
        """Move to ``offset`` bytes from the start."""
        await super().seek(offset)

    async def close(self) -> None:
        """Close the file; one on disk is deleted."""
        await super().close()

    @classmethod
    def _validate(cls, value: Any, _info: Any) -> Any:
        # Any upload is accepted, also Starlette's own class: forms are parsed into that.
        if not isinstance(value, StarletteUploadFile):
            raise ValueError(f"Expected UploadFile, received: {type(value)}")
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Mapping[str, Any], handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "contentMediaType": "application/octet-stream"}

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: Callable[[Any], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        return with_info_plain_validator_function(cls._validate)


class DefaultPlaceholder:
    """Wraps a default so that "not given" can be told from "given and equal"."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DefaultPlaceholder) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Default({self.value!r})"


DefaultType = TypeVar("DefaultType")


def Default(value: DefaultType) -> DefaultType:  # noqa: N802
    """Mark ``value`` as a default that nobody set; for type checkers it stays what it is."""
    return DefaultPlaceholder(value)  # type: ignore[return-value]


def value_of(setting: Any) -> Any:
    """Return the value of a setting, whether somebody has set it or not."""
    return setting.value if isinstance(setting, DefaultPlaceholder) else setting


# "Not given", of parameters for which None means something.  Typed as None for their defaults.
_Unset = Default(None)
