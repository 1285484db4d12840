"""Swagger UI and ReDoc served by the application itself, for places without the Internet.

The files come from the package turboapi-c-docs (`pip install 'turboapi-c[docs]'`). Where it is
installed, the pages load them from the application; otherwise from FastAPI's CDN. To insist:

    app = FastAPI(docs_assets="local")        or TURBOAPI_DOCS_ASSETS=local in the environment

and "cdn" likewise. `turboapi docs-assets --to DIR` gets the files from the npm registry instead;
`TURBOAPI_DOCS_ASSETS_DIR` then names the folder.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict

from starlette.responses import FileResponse, PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.requests import Request

DocsAssets: TypeAlias = Literal["cdn", "local"]

SWAGGER_JS: Final = "swagger-ui-bundle.js"
SWAGGER_CSS: Final = "swagger-ui.css"
REDOC_JS: Final = "redoc.standalone.js"
FAVICON: Final = "favicon-32x32.png"

_PACKAGE = "turboapi_docs_assets"
_SETTING = "TURBOAPI_DOCS_ASSETS"
_FOLDER_SETTING = "TURBOAPI_DOCS_ASSETS_DIR"
_CACHE_CONTROL = "public, max-age=86400"

# npm package and version; file in the package; name here.
_SOURCES: Final = {
    "swagger-ui-dist@5.35.0": {
        "swagger-ui-bundle.js": SWAGGER_JS,
        "swagger-ui.css": SWAGGER_CSS,
        "favicon-32x32.png": FAVICON,
        "LICENSE": "swagger-ui.LICENSE",
        "NOTICE": "swagger-ui.NOTICE",
    },
    "redoc@2.5.4": {
        "bundles/redoc.standalone.js": REDOC_JS,
        "LICENSE": "redoc.LICENSE",
    },
}
_SERVED: Final = frozenset({SWAGGER_JS, SWAGGER_CSS, REDOC_JS, FAVICON})


def choose(asked: DocsAssets | None) -> DocsAssets:
    """Return where the pages' files come from: as asked, else as the environment says.

    If neither says anything, we serve them where they are installed.

    Raises:
        ValueError: it is neither "cdn" nor "local".
        FileNotFoundError: they are to be served by us, and are not there.
    """
    chosen = asked or os.environ.get(_SETTING)
    if chosen not in ("cdn", "local", None, ""):
        raise ValueError(f"docs_assets ({_SETTING}) must be 'cdn' or 'local', not {chosen!r}")
    if chosen == "cdn":
        return "cdn"
    where = folder()
    missing = sorted(_SERVED if where is None else _missing(where))
    if not missing:
        return "local"
    if chosen == "local" or os.environ.get(_FOLDER_SETTING):
        raise FileNotFoundError(
            f"docs_assets='local': {', '.join(missing)} not found"
            f"{f' in {where}' if where else ''}. Install turboapi-c-docs (pip install "
            "'turboapi-c[docs]'), or get them with turboapi docs-assets --to DIR and set "
            f"{_FOLDER_SETTING}=DIR"
        )
    return "cdn"


def _missing(where: Path) -> Iterator[str]:
    return (name for name in _SERVED if not (where / name).is_file())


def folder() -> Path | None:
    """Return the folder of the files: the one named in the environment, else the package's."""
    named = os.environ.get(_FOLDER_SETTING)
    if named:
        return Path(named)
    try:
        package = importlib.import_module(_PACKAGE)
    except ImportError:
        return None
    found: Path = package.FOLDER
    return found


def url_of(docs_url: str | None, redoc_url: str | None) -> str:
    """Return the path that the files are served under: beside the first of the pages."""
    return (docs_url or redoc_url or "").rstrip("/") + "/assets"


class SwaggerUIUrls(TypedDict, total=False):
    """Arguments of `get_swagger_ui_html`."""

    swagger_js_url: str
    swagger_css_url: str
    swagger_favicon_url: str


class RedocUrls(TypedDict, total=False):
    """Arguments of `get_redoc_html`."""

    redoc_js_url: str
    redoc_favicon_url: str
    with_google_fonts: bool


def swagger_ui_urls(url: str) -> SwaggerUIUrls:
    """Return what makes `get_swagger_ui_html` use the files under `url`."""
    return {
        "swagger_js_url": f"{url}/{SWAGGER_JS}",
        "swagger_css_url": f"{url}/{SWAGGER_CSS}",
        "swagger_favicon_url": f"{url}/{FAVICON}",
    }


def redoc_urls(url: str) -> RedocUrls:
    """Return what makes `get_redoc_html` use the files under `url`, and no fonts of Google's."""
    return {
        "redoc_js_url": f"{url}/{REDOC_JS}",
        "redoc_favicon_url": f"{url}/{FAVICON}",
        "with_google_fonts": False,
    }


def endpoint() -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of `<url_of()>/{name}`, for an application with "local" files."""
    where = folder()
    assert where is not None, "choose() has seen the files"

    async def docs_asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _SERVED:
            return PlainTextResponse("Not Found", status_code=404)
        return FileResponse(where / name, headers={"cache-control": _CACHE_CONTROL})

    return docs_asset


def fetch(target: Path) -> None:
    """Get the files from the npm registry, with `npm pack`, which checks their digests.

    Raises:
        RuntimeError: npm is missing, or fails.
    """
    import tarfile  # not at the top: it takes long to import

    target.mkdir(parents=True, exist_ok=True)
    for package, files in _SOURCES.items():
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch, _npm_pack(package, scratch))
            with tarfile.open(archive) as tar:
                for inside, name in files.items():
                    content = tar.extractfile(f"package/{inside}")
                    if content is None:
                        raise RuntimeError(f"{package} has no file {inside}")
                    (target / name).write_bytes(content.read())


def _npm_pack(package: str, scratch: str) -> str:
    """Run npm and return the name of the archive."""
    try:
        done = subprocess.run(  # noqa: S603
            ["npm", "pack", "--silent", package],  # noqa: S607 (the user's own npm)
            cwd=scratch,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
    except FileNotFoundError:
        raise RuntimeError("npm is needed to get the files, and is not installed") from None
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"npm pack {package} failed: {error.stderr.strip()}") from None
    return done.stdout.split()[-1]
