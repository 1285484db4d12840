"""Names of requests: made, or taken from a trusted proxy; in the scope, the log and the response."""

import http.client
import logging
import re

import pytest
from server_kit import running

from turboapi import FastAPI, Request, WebSocket
from turboapi.config import Config, ConfigError
from turboapi.responses import JSONResponse, StreamingResponse

KEY = "turboapi.request_id"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def application():
    app = FastAPI()

    @app.get("/")
    async def root(request: Request):
        return request.scope.get(KEY)

    @app.get("/plain")
    async def plain():
        return 1

    @app.get("/own")
    async def own(request: Request):
        return JSONResponse(request.scope[KEY], headers={"X-Request-ID": "mine"})

    @app.get("/stream")
    async def stream(request: Request):
        async def parts():
            yield request.scope[KEY].encode()

        return StreamingResponse(parts(), headers={"x-other": "1"})

    @app.get("/fail")
    async def fail():
        raise RuntimeError("mine")

    @app.websocket("/ws")
    async def ws(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text(websocket.scope[KEY])
        await websocket.close()

    return app


def with_middleware():
    app = application()

    @app.middleware("http")
    async def through(request, call_next):
        request.scope["seen"] = request.scope[KEY]
        return await call_next(request)

    return app


def serve(app=None, **settings):
    settings.setdefault("interface", "auto")
    return running(app or application(), **settings)


def test_without_the_setting_there_is_none():
    with serve() as server:
        _, headers, body = server.get("/", **{"X-Request-ID": "theirs"})
    assert body == b"null"
    assert "x-request-id" not in headers


def test_each_request_has_its_own():
    with serve(request_id=True) as server, server.client() as connection:
        seen = set()
        for _ in range(200):
            connection.request("GET", "/", headers={"X-Request-ID": "theirs"})
            seen.add(connection.getresponse().read().decode().strip('"'))
    assert len(seen) == 200
    assert all(UUID.fullmatch(each) for each in seen)


@pytest.mark.parametrize("app", [application, with_middleware])
@pytest.mark.parametrize("path", ["/", "/stream"])
def test_it_is_taken_and_sent_back(app, path):
    settings = {"request_id_header": "X-Request-ID", "request_id_response": "X-Request-ID"}
    with serve(app(), **settings) as server:
        _, headers, body = server.get(path, **{"x-request-id": "a-1_b.c:d=e+f/g@h~"})
        assert body.strip(b'"') == b"a-1_b.c:d=e+f/g@h~"
        assert headers["x-request-id"] == "a-1_b.c:d=e+f/g@h~"
        _, headers, body = server.get(path)
        assert UUID.fullmatch(headers["x-request-id"])
        assert body.strip(b'"').decode() == headers["x-request-id"]


@pytest.mark.parametrize("path", ["/plain", "/nothing", "/fail", "/own", "/docs"])
def test_all_answers_have_it(path):
    with serve(request_id_response="X-Request-ID") as server:
        _, headers, _ = server.get(path)
        names = [name for name in headers if name.lower() == "x-request-id"]
        assert len(names) == 1
        assert (headers[names[0]] == "mine") == (path == "/own")
        with server.client() as connection:
            connection.request("HEAD", path)
            response = connection.getresponse()
            response.read()
            assert response.getheader("x-request-id")


def test_other_peers_are_not_believed():
    settings = {"request_id_header": "X-Request-ID", "forwarded_allow_ips": ("10.0.0.1",)}
    with serve(**settings) as server:
        _, _, body = server.get("/", **{"X-Request-ID": "theirs"})
    assert UUID.fullmatch(body.decode().strip('"'))


def test_a_proxy_at_a_unix_socket_is_believed(tmp_path):
    head = b"GET / HTTP/1.1\r\nhost: x\r\nx-request-id: theirs\r\nconnection: close\r\n\r\n"
    for trusted, believed in (("unix", True), ("127.0.0.1", False)):
        settings = {"uds": str(tmp_path / trusted), "forwarded_allow_ips": trusted}
        with serve(request_id_header="X-Request-ID", **settings) as server:
            assert server.exchange(head).endswith(b'"theirs"') is believed


@pytest.mark.parametrize(
    "given", ["", "a b", 'a"b', "a\\b", "a%0ab", "\xe9", "a,b", "x" * 129, "<script>"]
)
def test_names_that_are_none(given):
    with serve(request_id_header="X-Request-ID") as server:
        _, _, body = server.get("/", **{"X-Request-ID": given})
        assert UUID.fullmatch(body.decode().strip('"'))
        _, _, body = server.get("/", **{"X-Request-ID": "x" * 128})
        assert body.decode().strip('"') == "x" * 128


def test_the_log_of_errors_has_it(caplog):
    with caplog.at_level(logging.ERROR, "turboapi.error"), serve(request_id=True) as server:
        server.get("/fail")
    (text,) = [r.getMessage() for r in caplog.records if "Exception" in r.getMessage()]
    assert re.match(rf"Exception in ASGI application \(request {UUID.pattern}\)\n", text)


def test_requests_that_outlive_their_connection():
    """What runs on after the client has left still has the name."""
    import asyncio

    seen = []
    app = FastAPI()

    @app.get("/late")
    async def late(request: Request):
        await asyncio.sleep(0.2)
        seen.append(request.scope[KEY])

    with serve(app, request_id=True) as server:
        with server.raw(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n"):
            pass
    assert UUID.fullmatch(seen[0])


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "Content-Length", "a:b", "a\nb"])
def test_fields_that_are_none(name):
    for setting in ("request_id_header", "request_id_response"):
        with pytest.raises(ConfigError) as caught:
            Config(**{setting: name})
        assert caught.value.setting == setting
    Config(request_id_response="x" * 64)
    assert http.client
