"""`--request-encoding`: bodies of requests that have a Content-Encoding."""

import gzip
import http.client
import zlib

import pytest
from cli_kit import LOCAL, Server
from server_kit import TIMEOUT, both_protocols, handler, read_body, running, send_text

from turboapi import Body, FastAPI, Request, _core
from turboapi._serving.wsgi import WSGIAdapter
from turboapi.config import Config, ConfigError
from turboapi.middleware.cors import CORSMiddleware
from turboapi.routing import APIRoute

TEXT = b"some text, " * 20_000


def bare(data):
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


PACKED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "GZip": gzip.compress(TEXT[:100]) + gzip.compress(b"") + gzip.compress(TEXT[100:]),
    "deflate": zlib.compress(TEXT),
    "Deflate": bare(TEXT),
    "identity": TEXT,
    "": TEXT,
}
# As this build can; several frames of zstd are one body.
if "br" in _core.UNPACKED:
    PACKED["br"] = _core.Packer("br", 5).pack(TEXT, True)
if "zstd" in _core.UNPACKED:
    PACKED["zstd"] = _core.Packer("zstd", 3).pack(TEXT, True)
    PACKED["ZSTD"] = PACKED["zstd"] + _core.Packer("zstd", 3).pack(b"", True)
KNOWN = ", ".join(["gzip", "deflate", *_core.UNPACKED])


@handler
async def echo(scope, receive, send):
    if scope["path"] == "/ignores":
        await send_text(send, "ignored")
        return
    body = await read_body(receive)
    names = {name for name, _ in scope["headers"]} & {b"content-encoding", b"content-length"}
    if scope["path"] == "/length":
        body = str(len(body)).encode()
    await send_text(send, body, headers=[(b"x-had", b",".join(sorted(names)))])


def post(server, data, coding, path="/", **more):
    status, fields, body = server.request("POST", path, data, {"Content-Encoding": coding, **more})
    return status, {name.lower(): value for name, value in fields.items()}, body


@both_protocols
@pytest.mark.parametrize("coding", PACKED)
def test_decoded(coding):
    with running(echo, request_encoding="decode") as server:
        status, fields, body = post(server, PACKED[coding], coding)
        assert (status, body) == (200, TEXT)
        is_packed = coding not in ("identity", "")
        assert fields["x-had"] == ("" if is_packed else "content-encoding,content-length")
        assert server.request("POST", "/", TEXT)[1]["x-had"] == "content-length"


def test_pieces_of_any_size():
    """Chunked, a few bytes at a time: what can't be decoded yet waits."""
    packed = [
        ("gzip", gzip.compress(b"first")),
        ("deflate", zlib.compress(b"second")),
        ("deflate", bare(b"third")),
        *((coding, _core.Packer(coding, 3).pack(b"third", True)) for coding in _core.UNPACKED),
    ]
    with running(echo, request_encoding="decode") as server, server.client() as conn:
        for coding, data in packed:
            pieces = [data[i : i + 1] for i in range(len(data))]
            fields = {"Content-Encoding": coding, "Transfer-Encoding": "chunked"}
            conn.request("POST", "/", iter(pieces), fields, encode_chunked=True)
            assert conn.getresponse().read() in (b"first", b"second", b"third")


@both_protocols
def test_what_is_no_stream():
    cut = PACKED["gzip"][:-10]
    wrong = [
        (b"plain text", "gzip"),
        (cut, "gzip"),
        (PACKED["gzip"] + b"more", "gzip"),
        (PACKED["deflate"][:-1], "deflate"),
        (PACKED["deflate"] + b"more", "deflate"),
        (b"x", "deflate"),
        (b"\xff\xff\xff\xff", "deflate"),
    ]
    for coding in _core.UNPACKED:
        wrong += [(b"\xff plain text", coding), (PACKED[coding][:-3], coding)]
        wrong += [(PACKED[coding] + b"more", coding)]
    with running(echo, request_encoding="decode") as server:
        for data, coding in wrong:
            status, _, body = post(server, data, coding)
            assert (status, coding.encode() in body) == (400, True), (data[:20], coding)
        assert post(server, b"", "gzip")[::2] == (200, b"")
        assert post(server, b"nonsense", "gzip", "/ignores")[::2] == (200, b"ignored")


@both_protocols
def test_other_codings():
    with running(echo, request_encoding="decode") as server:
        for coding in ("compress", "gzip, gzip", "gzip,deflate", "unknown"):
            status, fields, _ = post(server, b"x", coding)
            assert (status, fields["accept-encoding"]) == (415, KNOWN)


@both_protocols
def test_refused():
    with running(echo, request_encoding="refuse") as server:
        for coding in ("gzip", "deflate", "br", "unknown"):
            status, fields, _ = post(server, PACKED["gzip"], coding)
            assert (status, fields["accept-encoding"]) == (415, "identity")
        assert post(server, TEXT, "identity")[2] == TEXT
        assert server.request("POST", "/", TEXT)[2] == TEXT


def test_refused_before_the_body_is_sent():
    head = (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 1000\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    with running(echo, request_encoding="refuse") as server:
        assert server.exchange(head).startswith(b"HTTP/1.1 415 ")


@both_protocols
def test_sizes_at_their_edges():
    exact, more = gzip.compress(bytes(100_000)), gzip.compress(bytes(100_001))
    limits = {"limit_decoded_bytes": 100_000, "limit_decoded_ratio": 0}
    with running(echo, request_encoding="decode", **limits) as server:
        assert post(server, exact, "gzip", "/length")[::2] == (200, b"100000")
        assert post(server, more, "gzip", "/length")[0] == 413
    # 1 MiB is free; then it is the ratio.
    free = 2**20
    packed = len(gzip.compress(bytes(free)))
    with running(echo, request_encoding="decode", limit_decoded_ratio=3) as server:
        assert post(server, gzip.compress(bytes(2 * free), 0), "gzip", "/length")[0] == 200
        edge = free + 3 * packed
        for size, status in ((edge, 200), (edge + 1000, 413)):
            data = gzip.compress(bytes(size))
            assert len(data) - packed < 100
            assert post(server, data, "gzip", "/length")[0] == status


def counting(seen):
    """An application that notes how long the pieces of a body are."""

    @handler
    async def app(scope, receive, send):
        while True:
            message = await receive()
            seen.append(len(message["body"]))
            if not message["more_body"]:
                break
        await send_text(send, "done")

    return app


@both_protocols
@pytest.mark.parametrize("limits", [{}, {"limit_decoded_ratio": 0}, {"limit_decoded_bytes": 0}])
def test_bombs(limits):
    """200 MB in 200 KB: what is decoded before the refusal is bounded."""
    stream = zlib.compressobj(9, wbits=31)
    bomb = b"".join(stream.compress(bytes(2**20)) for _ in range(200)) + stream.flush()
    assert len(bomb) < 250_000
    seen = []
    with running(counting(seen), request_encoding="decode", **limits) as server:
        assert post(server, bomb, "gzip")[0] == 413
        assert max(seen) <= 65536
        assert sum(seen) <= 2**26 + 65536
        # gzip of gzip is one coding for us: it is decoded once.
        seen.clear()
        assert post(server, gzip.compress(bomb), "gzip")[0] == 200
        assert sum(seen) == len(bomb)


@pytest.mark.parametrize("coding", _core.UNPACKED)
def test_bombs_of_other_codings(coding):
    """200 MB, packed to almost nothing."""
    packer = _core.Packer(coding, 2)
    bomb = b"".join(packer.pack(bytes(2**20), False) for _ in range(200)) + packer.pack(b"", True)
    assert len(bomb) < 250_000
    for limits in ({}, {"limit_decoded_ratio": 0}):
        seen = []
        with running(counting(seen), request_encoding="decode", **limits) as server:
            assert post(server, bomb, coding)[0] == 413
        assert max(seen) <= 65536
        assert sum(seen) <= 2**26 + 65536


def test_an_unpacker_by_itself():
    for coding in _core.UNPACKED:
        unpacker = _core.Unpacker(coding)
        unpacker.feed(PACKED[coding])
        assert len(unpacker.take(1000)) == 1000
        assert not unpacker.is_complete()
        rest = b"".join(iter(lambda taking=unpacker: taking.take(65536), b""))
        assert len(rest) == len(TEXT) - 1000
        assert unpacker.is_complete()
        with pytest.raises(ValueError, match="there must be room"):
            unpacker.take(0)
        unpacker = _core.Unpacker(coding)
        unpacker.feed(b"\xff no stream")
        for _ in range(2):
            with pytest.raises(ValueError, match="no such stream"):
                unpacker.take(10)
    with pytest.raises(ValueError, match="no coding gzip here"):
        _core.Unpacker("gzip")


def application():
    """FastAPI's documented example, and a model."""

    class GzipRequest(Request):
        async def body(self):
            if not hasattr(self, "_body"):
                body = await super().body()
                if "gzip" in self.headers.getlist("Content-Encoding"):
                    body = gzip.decompress(body)
                self._body = body
            return self._body

    class GzipRoute(APIRoute):
        def get_route_handler(self):
            original = super().get_route_handler()

            async def custom(request):
                return await original(GzipRequest(request.scope, request.receive))

            return custom

    app = FastAPI()
    app.router.route_class = GzipRoute

    @app.post("/sum")
    async def total(numbers: list[int] = Body()):
        return sum(numbers)

    app.router.route_class = APIRoute

    @app.post("/plain")
    async def plain(numbers: list[int] = Body()):
        return sum(numbers)

    return app


JSON = b"[" + b"1, " * 50 + b"1]"


@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
def test_applications_that_decode_themselves(interface):
    packed, json = gzip.compress(JSON), {"Content-Type": "application/json"}
    with running(application(), interface=interface) as server:
        assert post(server, packed, "gzip", "/sum", **json)[::2] == (200, b"51")
        assert post(server, packed, "gzip", "/plain", **json)[0] in (400, 422)
    with running(application(), interface=interface, request_encoding="decode") as server:
        for path in ("/sum", "/plain"):
            assert post(server, packed, "gzip", path, **json)[::2] == (200, b"51")
            assert server.request("POST", path, JSON, json)[::2] == (200, b"51")


def test_errors_are_the_applications_where_it_can(tmp_path):
    """Its handlers and its middleware see a 413 as they see its own."""
    app = application()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    limits = {"request_encoding": "decode", "limit_decoded_bytes": 1000}
    with running(app, interface="turboapi", **limits) as server:
        data = gzip.compress(b"[" + b" " * 2000 + b"]")
        asked = {"Origin": "http://x", "Content-Type": "application/json"}
        status, fields, body = post(server, data, "gzip", "/plain", **asked)
        assert (status, fields["access-control-allow-origin"]) == (413, "*")
        assert body == b'{"detail":"The decoded body is too large"}'


def test_wsgi():
    def app(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("content-length", str(len(body)))])
        return [body]

    adapted = WSGIAdapter(app, threads=2, multiprocess=False)
    with running(adapted, interface="wsgi", request_encoding="decode") as server:
        assert post(server, PACKED["gzip"], "gzip")[::2] == (200, TEXT)


def test_from_the_command_line(tmp_path):
    (tmp_path / "main.py").write_text(
        "from turboapi import Body, FastAPI\n"
        "app = FastAPI()\n"
        "@app.post('/items/{n}')\n"
        "async def total(n: int, numbers: list[int] = Body()):\n"
        "    return sum(numbers)\n"
    )
    options = ("--request-encoding", "decode", "--access-log-format", "{route} {status}")
    with Server(tmp_path, "run", "main:app", *LOCAL, *options) as server:
        server.port = int(server.saw(r"Listening on http://[^ ]*:(\d+)")[1])
        conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        fields = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        conn.request("POST", "/items/1", gzip.compress(JSON), fields)
        assert conn.getresponse().read() == b"51"
        server.saw(r"/items/\{n\} 200")
        conn.close()


def test_wrong_values():
    with pytest.raises(ConfigError, match="request_encoding: must be one of pass, refuse, decode"):
        Config(request_encoding="yes")
