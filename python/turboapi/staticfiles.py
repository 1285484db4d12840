"""Starlette's static files under FastAPI's module name, and files that were packed beforehand."""

import os
import stat
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse as NotModifiedResponse
from starlette.staticfiles import PathLike as PathLike
from starlette.staticfiles import StaticFiles as StaticFiles
from starlette.types import Scope

from turboapi import _core

__all__ = ["PrecompressedStaticFiles", "StaticFiles"]

# By preference among those that a client likes equally well.
_SUFFIXES = {"zstd": ".zst", "br": ".br", "gzip": ".gz"}


class _Place(NamedTuple):
    """What `StaticFiles.lookup_path` asks of its `self`."""

    all_directories: list[Any]
    follow_symlink: bool


class _Found(str):
    """The path of a file, and what lies packed beside it: by coding, its path and status."""

    beside: dict[str, tuple[str, os.stat_result]]


class PrecompressedStaticFiles(StaticFiles):
    """`StaticFiles` that sends `app.js.zst`, `app.js.br` or `app.js.gz` in the place of `app.js`.

    Which one is sent depends on `Accept-Encoding` with its weights. Each has an ETag, a date and
    ranges of its own, and the media type of the file beside which it lies, which must be there,
    too. `Vary: Accept-Encoding` is added to all files.
    """

    def __init__(self, *, codings: Iterable[str] = ("zstd", "br", "gzip"), **options: Any) -> None:
        """Take what `StaticFiles` takes, and the codings to look for, by preference.

        Raises:
            ValueError: there is no suffix for one of the codings.
            RuntimeError: the directory does not exist.
        """
        self.codings = tuple(dict.fromkeys(codings))
        if unknown := [each for each in self.codings if each not in _SUFFIXES]:
            raise ValueError(f"codings must be some of {', '.join(_SUFFIXES)}, got {unknown[0]!r}")
        super().__init__(**options)

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Look a file up as `StaticFiles` does, and those beside it."""
        for directory in self.all_directories:
            place = cast("StaticFiles", _Place([directory], self.follow_symlink))
            full_path, status = StaticFiles.lookup_path(place, path)
            if status is None:
                continue
            found = _Found(full_path)
            found.beside = {}
            for coding in self.codings if stat.S_ISREG(status.st_mode) else ():
                packed, its = StaticFiles.lookup_path(place, path + _SUFFIXES[coding])
                if its is not None and stat.S_ISREG(its.st_mode):
                    found.beside[coding] = packed, its
            return found, status
        return "", None

    def file_response(
        self,
        full_path: PathLike,
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Return the response with the file, or with the one beside it that the client likes."""
        asked = Headers(scope=scope)
        beside = getattr(full_path, "beside", {})
        accepted = [each.encode("latin-1") for each in asked.getlist("accept-encoding")]
        coding, _plain = _core.choose_coding(accepted, tuple(beside))
        if coding in beside:
            path, stat_result = beside[coding]
            response = FileResponse(
                path,
                status_code=status_code,
                media_type=FileResponse(full_path).media_type,
                stat_result=stat_result,
            )
            response.headers["etag"] = f'{response.headers["etag"][:-1]}-{coding}"'
            response.headers["content-encoding"] = coding
        else:
            response = FileResponse(full_path, status_code=status_code, stat_result=stat_result)
        response.headers["vary"] = "Accept-Encoding"
        if self.is_not_modified(response.headers, asked):
            return NotModifiedResponse(response.headers)
        return response
