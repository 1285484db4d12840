"""Swagger UI and ReDoc: the pages, and their files served by us."""

import json
import re
import sys
import types
from pathlib import Path

import pytest

from turboapi import FastAPI
from turboapi.openapi import assets
from turboapi.openapi.docs import (
    get_redoc_html,
    get_swagger_ui_html,
    get_swagger_ui_oauth2_redirect_html,
)
from turboapi.testclient import TestClient

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name in (assets.SWAGGER_JS, assets.SWAGGER_CSS, assets.REDOC_JS, assets.FAVICON):
        (tmp_path / name).write_text(f"content of {name}")
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setenv("TURBOAPI_DOCS_ASSETS_DIR", str(tmp_path))
    return tmp_path


def links(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', page)


@pytest.fixture
def not_installed(monkeypatch):
    """As if turboapi-c-docs were not installed, and nothing set in the environment."""
    monkeypatch.setitem(sys.modules, "turboapi_docs_assets", None)
    for name in ("TURBOAPI_DOCS_ASSETS", "TURBOAPI_DOCS_ASSETS_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_without_the_files_the_default_is_the_cdn(not_installed):
    client = TestClient(FastAPI())
    assert links(client.get("/docs").text) == [
        "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui.css",
        "https://fastapi.tiangolo.com/img/favicon.png",
        "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui-bundle.js",
    ]
    assert "https://cdn.jsdelivr.net/npm/redoc@2/" in client.get("/redoc").text
    assert client.get("/docs/assets/swagger-ui.css").status_code == 404


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_local_files(files, how, monkeypatch):
    if how == "environment":
        monkeypatch.setenv("TURBOAPI_DOCS_ASSETS", "local")
        app = FastAPI()
    else:
        app = FastAPI(docs_assets="local")
    client = TestClient(app)
    for page in ("/docs", "/redoc"):
        text = client.get(page).text
        assert "https://" not in text
        assert links(text)
        for link in links(text):
            answer = client.get(link)
            assert answer.text == f"content of {link.rpartition('/')[2]}"
            assert answer.headers["cache-control"] == "public, max-age=86400"
    assert client.get("/docs/assets/swagger-ui.css").headers["content-type"].startswith("text/css")
    for name in ("secret.txt", "..%2Fsecret.txt", "nothing"):
        assert client.get(f"/docs/assets/{name}").status_code == 404
    assert "/docs/assets" not in json.dumps(app.openapi())


def test_local_files_behind_a_proxy_and_without_swagger(files):
    app = FastAPI(docs_assets="local", docs_url=None)
    client = TestClient(app, root_path="/api")
    assert links(client.get("/redoc").text) == [
        "/api/redoc/assets/favicon-32x32.png",
        "/api/redoc/assets/redoc.standalone.js",
    ]
    assert client.get("/redoc/assets/redoc.standalone.js").status_code == 200


def test_installed_files_are_served_by_default(not_installed, monkeypatch):
    package = ROOT / "packages/docs-assets/turboapi_docs_assets"
    module = types.ModuleType("turboapi_docs_assets")
    module.FOLDER = package
    monkeypatch.setitem(sys.modules, "turboapi_docs_assets", module)
    client = TestClient(FastAPI())
    for page in ("/docs", "/redoc"):
        text = client.get(page).text
        assert "https://" not in text
        assert len(links(text)) >= 2
        for link in links(text):
            assert client.get(link).content == (package / link.rpartition("/")[2]).read_bytes()
    assert "jsdelivr" in TestClient(FastAPI(docs_assets="cdn")).get("/docs").text


@pytest.mark.parametrize(("page", "name"), [("/docs", "SwaggerUIBundle"), ("/redoc", "Redoc")])
def test_a_page_of_the_cdn_says_what_to_do_without_it(page, name, not_installed):
    app = FastAPI(openapi_url="/</script>.json")
    text = TestClient(app).get(page).text
    notice = text[text.rindex("<script>") :]
    assert f'typeof {name} === "undefined"' in notice
    assert "pip install " in notice
    assert notice.count("</script>") == 1
    assert text.count("</body>") == 1


def test_local_files_that_are_not_there(tmp_path, not_installed, monkeypatch):
    with pytest.raises(FileNotFoundError, match="Install turboapi-c-docs"):
        FastAPI(docs_assets="local")
    monkeypatch.setenv("TURBOAPI_DOCS_ASSETS_DIR", str(tmp_path))
    for docs_assets in ("local", None):
        with pytest.raises(FileNotFoundError, match="turboapi docs-assets"):
            FastAPI(docs_assets=docs_assets)
    with pytest.raises(ValueError, match="must be 'cdn' or 'local'"):
        FastAPI(docs_assets="disk")


def test_values_can_not_leave_the_script():
    page = get_swagger_ui_html(
        openapi_url="/o",
        title="t",
        swagger_ui_parameters={"a": "</script><b>&"},
        init_oauth={"clientId": "</script>"},
    ).body.decode()
    assert page.count("</script>") == 2
    assert r"\u003c/script\u003e\u003cb\u003e\u0026" in page


def test_text_with_dollars_stays():
    page = get_redoc_html(openapi_url="/$x", title="$title ${y}").body.decode()
    assert "<title>$title ${y}</title>" in page
    assert 'spec-url="/$x"' in page


def test_redirect_page_speaks_swagger_uis_protocol():
    page = get_swagger_ui_oauth2_redirect_html().body.decode()
    for word in ("window.opener.swaggerUIRedirectOauth2", "errCb", "authId", "redirectUrl"):
        assert word in page
