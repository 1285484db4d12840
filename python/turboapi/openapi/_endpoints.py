"""The endpoints of an application's OpenAPI document, and of the pages that show it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from turboapi import _core
from turboapi.openapi import assets
from turboapi.openapi.docs import (
    get_redoc_html,
    get_swagger_ui_html,
    get_swagger_ui_oauth2_redirect_html,
    with_cdn_notice,
)

if TYPE_CHECKING:
    from turboapi.applications import FastAPI

Endpoint = Callable[[Request], Awaitable[Response]]


def assets_url(app: "FastAPI") -> str:
    """Return the path below which the application serves the files of the pages itself."""
    return assets.url_of(app.docs_url, app.redoc_url)


def openapi_endpoint(app: "FastAPI") -> Endpoint:
    """Return the endpoint of the OpenAPI document, with the path below which it is served."""

    async def openapi(req: Request) -> Response:
        schema = app.openapi()
        root_path = _root_path(req)
        if root_path and app.root_path_in_servers:
            servers = schema.get("servers", [])
            if all(server.get("url") != root_path for server in servers):
                schema = {**schema, "servers": [{"url": root_path}, *servers]}
        # All of it is plain data, unless the method was replaced.
        body = _core.encode_json(schema)
        if body is None:
            return JSONResponse(schema)
        return Response(body, media_type="application/json")

    return openapi


def swagger_ui_endpoint(app: "FastAPI") -> Endpoint:
    """Return the endpoint of the page with Swagger UI."""

    async def swagger_ui_html(req: Request) -> HTMLResponse:
        root_path = _root_path(req)
        redirect = app.swagger_ui_oauth2_redirect_url
        files: assets.SwaggerUIUrls = {}
        if app.docs_assets == "local":
            files = assets.swagger_ui_urls(root_path + assets_url(app))
        openapi_url = f"{root_path}{app.openapi_url}"
        page = get_swagger_ui_html(
            openapi_url=openapi_url,
            title=f"{app.title} - Swagger UI",
            oauth2_redirect_url=root_path + redirect if redirect else redirect,
            init_oauth=app.swagger_ui_init_oauth,
            swagger_ui_parameters=app.swagger_ui_parameters,
            **files,
        )
        if files:
            return page
        return with_cdn_notice(page, "Swagger UI", "SwaggerUIBundle", openapi_url)

    return swagger_ui_html


def oauth2_redirect_endpoint() -> Endpoint:
    """Return the endpoint to which an authorization server sends Swagger UI back."""

    async def swagger_ui_redirect(req: Request) -> HTMLResponse:
        return get_swagger_ui_oauth2_redirect_html()

    return swagger_ui_redirect


def redoc_endpoint(app: "FastAPI") -> Endpoint:
    """Return the endpoint of the page with ReDoc."""

    async def redoc_html(req: Request) -> HTMLResponse:
        root_path = _root_path(req)
        files: assets.RedocUrls = {}
        if app.docs_assets == "local":
            files = assets.redoc_urls(root_path + assets_url(app))
        openapi_url = f"{root_path}{app.openapi_url}"
        page = get_redoc_html(openapi_url=openapi_url, title=f"{app.title} - ReDoc", **files)
        return page if files else with_cdn_notice(page, "ReDoc", "Redoc", openapi_url)

    return redoc_html


def _root_path(request: Request) -> str:
    return request.scope.get("root_path", "").rstrip("/")  # type: ignore[no-any-return]
