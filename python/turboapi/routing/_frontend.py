"""`app.frontend()`: the files of a built single-page application, below every other route.

https://fastapi.tiangolo.com/tutorial/frontend/
"""

import email.message
import errno
import os
import stat
import warnings
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from starlette._utils import get_route_path
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL, URLPath
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from turboapi import params
from turboapi._compile.hooks import RequestHooks
from turboapi.exceptions import RequestValidationError
from turboapi.routing import _scope
from turboapi.routing._state import dependant_for
from turboapi.telemetry._api import _route_selected

Fallback = Literal["auto", "index.html", "404.html"]
Directory = str | os.PathLike[str]

_FALLBACKS: tuple[str | None, ...] = ("auto", "index.html", "404.html", None)
_HTML = ("text/html", "application/xhtml+xml")


def normalize_path(path: str) -> str:
    """Return the path without its final slashes; raise AssertionError for one that can't be."""
    if not path:
        raise AssertionError("A frontend path cannot be empty")
    if not path.startswith("/"):
        raise AssertionError("A frontend path must start with '/'")
    return path if path == "/" else path.rstrip("/")


def join_paths(prefix: str, path: str) -> str:
    """Return the path below `prefix`; "/" is the prefix itself."""
    return prefix if prefix and path == "/" else prefix + path


def specificity(path: str) -> int:
    """Of several that match, the longest path wins."""
    return 0 if path == "/" else len(path)


def resolve_check_dir(*, directory: Directory, check_dir: bool | Literal["auto"]) -> bool:
    """Return whether a missing directory is an error; in development it may not be built yet."""
    if check_dir != "auto":
        return check_dir
    if os.environ.get("FASTAPI_ENV") != "development":
        return True
    if not Path(directory).is_dir():
        warnings.warn(_missing(directory), stacklevel=3)
    return False


def _missing(directory: Directory) -> str:
    return (
        f"Frontend directory '{directory}' does not exist. "
        f"Resolved absolute path: '{os.path.realpath(os.fspath(directory))}'"
    )


class _FrontendStaticFiles(StaticFiles):
    """The files, and what is sent where there is none: a page of the application."""

    def __init__(self, *, directory: Directory, fallback: Fallback | None, check_dir: bool) -> None:
        self.fallback = fallback
        if check_dir and not Path(directory).is_dir():
            raise RuntimeError(_missing(directory))
        super().__init__(directory=directory, html=True, check_dir=check_dir, follow_symlink=False)
        if check_dir and fallback in ("index.html", "404.html"):
            self._stat_fallback(fallback)

    def _stat_fallback(self, name: str) -> tuple[str, os.stat_result]:
        full_path, found = self.lookup_path(name)
        if found is None or not stat.S_ISREG(found.st_mode):
            assert self.directory is not None
            raise RuntimeError(
                f"Frontend fallback file '{name}' does not exist in directory "
                f"'{self.directory}'. Resolved absolute directory: "
                f"'{os.path.realpath(os.fspath(self.directory))}'"
            )
        return full_path, found

    def get_path(self, scope: Scope) -> str:
        """Return the path of the file below the directory, as the matched route put it in the
        scope.
        """
        path = _scope.peek(scope, _scope.FRONTEND_PATH) or ""
        assert isinstance(path, str)
        return os.path.normpath(os.path.join(*path.split("/")))  # noqa: PTH118 - as StaticFiles

    async def get_response_for_scope(self, scope: Scope) -> Response:
        """Return the response for a request that the frontend matched."""
        if not self.config_checked:
            await self.check_config()
            self.config_checked = True
        return await self.get_response(self.get_path(scope), scope)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, a redirect to a directory, or the fallback; HTTPException for the rest."""
        found = await self._find(path)
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(status_code=404 if found is None else 405)
        if found is None:
            return await self._fall_back(scope)
        full_path, info, is_index = found
        if is_index and not scope["path"].endswith("/"):
            # Relative links of the page count from its directory.
            url = URL(scope=scope)
            return RedirectResponse(url=url.replace(path=url.path + "/"))
        return self.file_response(full_path, info, scope)

    async def _fall_back(self, scope: Scope) -> Response:
        wanted = self.fallback
        if wanted == "404.html" or (wanted == "auto" and await self._has("404.html")):
            return await self._send_fallback("404.html", scope, status_code=404)
        has_index = wanted == "index.html" or (wanted == "auto" and await self._has("index.html"))
        if has_index and _is_navigation(scope):
            return await self._send_fallback("index.html", scope, status_code=200)
        raise HTTPException(status_code=404)

    async def _send_fallback(self, name: str, scope: Scope, *, status_code: int) -> Response:
        full_path, info = await run_in_threadpool(self._stat_fallback, name)
        return self.file_response(full_path, info, scope, status_code=status_code)

    async def _has(self, name: str) -> bool:
        _, found = await run_in_threadpool(self.lookup_path, name)
        return found is not None and stat.S_ISREG(found.st_mode)

    async def _find(self, path: str) -> tuple[str, os.stat_result, bool] | None:
        """Path and status of a file, or of a directory's index (then True)."""
        full_path, found = await self._look_up(path)
        if found is None:
            return None
        if stat.S_ISREG(found.st_mode):
            return full_path, found, False
        if stat.S_ISDIR(found.st_mode):
            full_path, found = await self._look_up(f"{path}/index.html")
            if found is not None and stat.S_ISREG(found.st_mode):
                return full_path, found, True
        return None

    async def _look_up(self, path: str) -> tuple[str, os.stat_result | None]:
        try:
            return await run_in_threadpool(self.lookup_path, path)
        except PermissionError:
            raise HTTPException(status_code=401) from None
        except ValueError:  # a NUL in the path
            raise HTTPException(status_code=404) from None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise HTTPException(status_code=404) from None
            raise


def _is_navigation(scope: Scope) -> bool:
    """Return whether a browser opens a page, which asks for HTML, unlike a script's request."""
    accept = Request(scope).headers.get("accept", "")
    return any(kind in _HTML and quality != 0 for kind, quality in _media_ranges(accept))


def _media_ranges(accept: str) -> Iterator[tuple[str, float]]:
    for item in accept.split(","):
        message = email.message.Message()
        message["content-type"] = item.strip()
        try:
            quality = float(str(message.get_param("q", "1")))
        except ValueError:
            quality = 1.0
        yield message.get_content_type(), quality


class _FrontendRoute(BaseRoute):
    """One directory, at one path."""

    def __init__(
        self, path: str, *, directory: Directory, fallback: Fallback | None, check_dir: bool
    ) -> None:
        if fallback not in _FALLBACKS:
            raise AssertionError("fallback must be 'auto', 'index.html', '404.html', or None")
        self.path = normalize_path(path)
        self.methods = {"GET", "HEAD"}
        self.app = _FrontendStaticFiles(directory=directory, fallback=fallback, check_dir=check_dir)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return self.matches_with_path(scope, self.path)

    def matches_with_path(self, scope: Scope, path: str) -> tuple[Match, Scope]:
        """Match below `path`; the scope gets the path of the file."""
        if scope["type"] != "http":
            return Match.NONE, {}
        asked = get_route_path(scope)
        if path == "/":
            file = asked.lstrip("/")
        elif asked == path or asked.startswith(path + "/"):
            file = asked[len(path) + 1 :]
        else:
            return Match.NONE, {}
        own = {_scope.FRONTEND_PATH: file, _scope.FRONTEND_SPECIFICITY: specificity(path)}
        match = Match.FULL if scope["method"] in self.methods else Match.PARTIAL
        return match, {_scope.FASTAPI: own}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.app.get_response_for_scope(scope)
        await response(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)


def _nothing() -> None:
    """Stand for the endpoint of a frontend's dependencies."""


class _Guard:
    """Runs the dependencies of the routers round a frontend before its files are sent."""

    def __init__(self, dependencies: Sequence[params.Depends], provider: Any | None) -> None:
        dependant, _, embed = dependant_for(path="", call=_nothing, dependencies=dependencies)
        self.is_empty = not dependant.dependencies
        self.hooks = RequestHooks(
            dependant=dependant,
            overrides=provider,
            embed_body_fields=embed,
        )

    @asynccontextmanager
    async def solved(self, scope: Scope, receive: Receive, send: Send) -> AsyncGenerator[Any]:
        """Yield the solved dependencies; those with `yield` are closed at the end of the block."""
        names = ("fastapi_inner_astack", "fastapi_function_astack")
        previous = {name: scope[name] for name in names if name in scope}
        try:
            async with AsyncExitStack() as request_stack, AsyncExitStack() as function_stack:
                scope.update(zip(names, (request_stack, function_stack), strict=True))
                request = Request(scope, receive, send)
                solved = await self.hooks.plan.solve(request)
                if solved.errors:
                    raise RequestValidationError(solved.errors)
                yield solved
        finally:
            for name in names:
                scope.pop(name, None)
            scope.update(previous)


class _FrontendRouteGroup(BaseRoute):
    """All frontends of one router."""

    def __init__(
        self,
        *,
        dependencies: Sequence[params.Depends] | None = None,
        dependency_overrides_provider: Any | None = None,
    ) -> None:
        self.routes: list[_FrontendRoute] = []
        self.dependencies = list(dependencies or [])
        self.dependency_overrides_provider = dependency_overrides_provider
        self.guard = self.guard_for(self.dependencies, dependency_overrides_provider)

    @staticmethod
    def guard_for(dependencies: Sequence[params.Depends], provider: Any | None) -> _Guard:
        return _Guard(dependencies, provider)

    def add_frontend_route(
        self,
        path: str,
        *,
        directory: Directory,
        fallback: Fallback | None = "auto",
        check_dir: bool,
    ) -> None:
        route = _FrontendRoute(path, directory=directory, fallback=fallback, check_dir=check_dir)
        self.routes.append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return self.matches_with_prefix(scope, "")

    def matches_with_prefix(self, scope: Scope, prefix: str) -> tuple[Match, Scope]:
        """Match where the router is included under `prefix`."""
        match, child, _ = self._match(scope, prefix)
        return match, child

    def _match(self, scope: Scope, prefix: str) -> tuple[Match, Scope, _FrontendRoute | None]:
        best: tuple[Match, Scope, _FrontendRoute | None] = (Match.NONE, {}, None)
        best_rank = (0, 0)
        for route in self.routes:
            path = join_paths(prefix, route.path)
            match, child = route.matches_with_path(scope, path)
            # A full match before a partial one, then the longer path, then the earlier.
            rank = (match.value, specificity(path) + 1)
            if match is not Match.NONE and rank > best_rank:
                best, best_rank = (match, child, route), rank
        return best

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        effective = _scope.peek(scope, _scope.EFFECTIVE_ROUTE)
        if effective is not None and effective.original_route is self:
            prefix, guard = effective.frontend_prefix, effective.guard
        else:
            prefix, guard = "", self.guard
        match, child, route = self._match(scope, prefix)
        if route is None:
            raise HTTPException(status_code=404)
        _scope.merge_child(scope, child)
        _route_selected(scope=scope, path=join_paths(prefix, route.path).rstrip("/") + "/{path}")
        if match is not Match.FULL or guard.is_empty:
            await route.handle(scope, receive, send)
            return
        async with guard.solved(scope, receive, send) as solved:
            response = await route.app.get_response_for_scope(scope)
            if response.background is None:
                response.background = solved.background_tasks
            response.headers.raw.extend(solved.response.headers.raw)
            await response(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)
