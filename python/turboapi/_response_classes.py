"""`JSONResponse` and `FileResponse`: Starlette's, which C constructs from usual arguments."""

import json
import mimetypes
import os
from abc import ABCMeta
from collections.abc import Mapping
from typing import Any

from starlette import responses
from starlette.background import BackgroundTask
from starlette.responses import Response

from turboapi import _core
from turboapi._untouched import is_from

_Guards = tuple[tuple[Any, str, Any], ...]


class _Twin(ABCMeta):
    """The class of these classes: what Starlette itself makes is an instance of them, too.

    FastAPI's names are Starlette's own classes, so `isinstance` must not tell them apart.  (It is
    an ABCMeta so that subclasses may be abstract.)
    """

    def __instancecheck__(cls, instance: Any) -> bool:
        twin = vars(cls).get("_starlette")
        return super().__instancecheck__(instance) if twin is None else isinstance(instance, twin)

    def __subclasscheck__(cls, subclass: type) -> bool:
        twin = vars(cls).get("_starlette")
        return super().__subclasscheck__(subclass) if twin is None else issubclass(subclass, twin)


def _guards(cls: type[Response], *names: str) -> _Guards:
    """Return what C stands in for: a false one, if somebody has replaced something already."""
    functions = [(cls, name) for name in names]
    if not all(is_from(getattr(owner, name), responses) for owner, name in functions):
        return ((cls, "__init__", None),)
    functions += [(Response, "__init__"), (cls, "charset")]
    return tuple((owner, name, getattr(owner, name)) for owner, name in functions)


_JSON_GUARDS = (
    *_guards(responses.JSONResponse, "__init__", "render", "init_headers"),
    (json, "dumps", json.dumps),
)
_FILE_GUARDS = (
    *_guards(responses.FileResponse, "__init__", "init_headers"),
    (responses, "guess_type", mimetypes.guess_type),
)


class JSONResponse(responses.JSONResponse, metaclass=_Twin):
    """A response whose content is written as JSON."""

    _starlette = responses.JSONResponse

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        if type(self) is not JSONResponse or not _core.init_json_response(
            _JSON_GUARDS, self, content, status_code, headers, media_type, background
        ):
            super().__init__(content, status_code, headers, media_type, background)


class FileResponse(responses.FileResponse, metaclass=_Twin):
    """A response that sends a file."""

    _starlette = responses.FileResponse

    def __init__(
        self,
        path: str | os.PathLike[str],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
        filename: str | None = None,
        stat_result: os.stat_result | None = None,
        content_disposition_type: str = "attachment",
    ) -> None:
        if (
            type(self) is not FileResponse
            or stat_result is not None
            or not _core.init_file_response(
                _FILE_GUARDS,
                self,
                path,
                status_code,
                headers,
                media_type,
                background,
                filename,
                content_disposition_type,
            )
        ):
            super().__init__(
                path,
                status_code,
                headers,
                media_type,
                background,
                filename,
                stat_result,
                content_disposition_type,
            )
