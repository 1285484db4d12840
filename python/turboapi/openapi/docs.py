"""The pages of the interactive documentation: Swagger UI, ReDoc and the OAuth 2 redirect.

An application serves them at `/docs` and `/redoc` by itself; call these functions to serve them
with other assets.  See https://fastapi.tiangolo.com/how-to/custom-docs-ui-assets/.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import HTMLResponse

from turboapi.encoders import jsonable_encoder
from turboapi.openapi import _pages

_FAVICON_URL = "https://fastapi.tiangolo.com/img/favicon.png"

# What Swagger UI is given unless `swagger_ui_parameters` says otherwise.
swagger_ui_default_parameters: dict[str, Any] = {
    "dom_id": "#swagger-ui",
    "layout": "BaseLayout",
    "deepLinking": True,
    "showExtensions": True,
    "showCommonExtensions": True,
}

# Characters that could end a <script> element or start an entity inside it.
_SCRIPT_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&"})


def _script_json(value: Any) -> str:
    """JSON that is safe inside a <script> element."""
    return json.dumps(value).translate(_SCRIPT_ESCAPES)


def get_swagger_ui_html(
    *,
    openapi_url: str,
    title: str,
    swagger_js_url: str = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui-bundle.js",
    swagger_css_url: str = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui.css",
    swagger_favicon_url: str = _FAVICON_URL,
    oauth2_redirect_url: str | None = None,
    init_oauth: dict[str, Any] | None = None,
    swagger_ui_parameters: dict[str, Any] | None = None,
) -> HTMLResponse:
    """Return the page that loads Swagger UI.

    Args:
        openapi_url: where the browser gets the OpenAPI document.
        title: of the page.
        swagger_js_url: where the browser gets Swagger UI's script.
        swagger_css_url: where the browser gets Swagger UI's style sheet.
        swagger_favicon_url: the icon of the page.
        oauth2_redirect_url: path of the page that `get_swagger_ui_oauth2_redirect_html` gives.
        init_oauth: arguments of Swagger UI's `initOAuth`.
        swagger_ui_parameters: on top of `swagger_ui_default_parameters`; see
            https://swagger.io/docs/open-source-tools/swagger-ui/usage/configuration/.
    """
    parameters = swagger_ui_default_parameters | (swagger_ui_parameters or {})
    oauth = redirect = ""
    if oauth2_redirect_url:
        redirect = _pages.SWAGGER_UI_REDIRECT.substitute(url=oauth2_redirect_url)
    if init_oauth:
        options = _script_json(jsonable_encoder(init_oauth))
        oauth = _pages.SWAGGER_UI_OAUTH.substitute(options=options)
    page = _pages.SWAGGER_UI.substitute(
        title=title,
        openapi_url=openapi_url,
        js_url=swagger_js_url,
        css_url=swagger_css_url,
        favicon_url=swagger_favicon_url,
        parameters="".join(
            _pages.SWAGGER_UI_PARAMETER.substitute(
                name=_script_json(name), value=_script_json(jsonable_encoder(value))
            )
            for name, value in parameters.items()
        ),
        redirect=redirect,
        oauth=oauth,
    )
    return HTMLResponse(page)


def get_redoc_html(
    *,
    openapi_url: str,
    title: str,
    redoc_js_url: str = "https://cdn.jsdelivr.net/npm/redoc@2/bundles/redoc.standalone.js",
    redoc_favicon_url: str = _FAVICON_URL,
    with_google_fonts: bool = True,
) -> HTMLResponse:
    """Return the page that loads ReDoc.

    Args:
        openapi_url: where the browser gets the OpenAPI document.
        title: of the page.
        redoc_js_url: where the browser gets ReDoc's script.
        redoc_favicon_url: the icon of the page.
        with_google_fonts: lets the browser load two fonts from Google.
    """
    page = _pages.REDOC.substitute(
        title=title,
        openapi_url=openapi_url,
        js_url=redoc_js_url,
        favicon_url=redoc_favicon_url,
        fonts=_pages.REDOC_FONTS if with_google_fonts else "",
    )
    return HTMLResponse(page)


def get_swagger_ui_oauth2_redirect_html() -> HTMLResponse:
    """Return the page to which an authorisation server sends the browser back."""
    return HTMLResponse(_pages.OAUTH2_REDIRECT)


def with_cdn_notice(page: HTMLResponse, library: str, name: str, openapi_url: str) -> HTMLResponse:
    """Return a page that tells what to do when its script cannot be loaded from the CDN.

    Args:
        page: what `get_swagger_ui_html` or `get_redoc_html` returned.
        library: what the reader knows it as.
        name: the global variable that its script defines.
        openapi_url: where the OpenAPI document can be read all the same.
    """
    notice = _pages.CDN_NOTICE.substitute(
        library=library, object=name, openapi_url=_script_json(openapi_url)
    )
    before, end, after = bytes(page.body).decode().rpartition("</body>")
    return HTMLResponse(before + notice + end + after)
