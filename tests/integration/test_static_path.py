"""`--static-path`, and files that lie packed beside themselves."""

import asyncio
import gzip
import http.client
import os
import socket
import ssl
from email.utils import formatdate

import pytest
from certificates import Authority
from cli_kit import APP, LOCAL, Server, run
from server_kit import both_protocols, forever, handler, running, send_text, text_app
from starlette.applications import Starlette
from starlette.routing import Mount
from test_static_files import by_server, by_starlette, hide_boundary
from test_static_files import threads as threads

from turboapi import FastAPI
from turboapi._serving.wsgi import WSGIAdapter
from turboapi.config import Config, ConfigError
from turboapi.middleware.cors import CORSMiddleware
from turboapi.staticfiles import PrecompressedStaticFiles

CODE = b"let x = 1;\n" * 5000
TYPE = "text/javascript; charset=utf-8"


@pytest.fixture
def folder(tmp_path):
    """Files with others beside them, which have other contents, to tell them apart."""
    root = tmp_path / "public"
    (root / "docs").mkdir(parents=True)
    (root / "app.js").write_bytes(CODE)
    (root / "app.js.gz").write_bytes(b"gzip of it" * 4000)
    (root / "app.js.br").write_bytes(b"brotli!!")
    (root / "app.js.zst").write_bytes(b"zstd!!!!")
    (root / "plain.txt").write_bytes(b"plain")
    (root / "only.css").write_bytes(b"a{}")
    (root / "only.css.gz").write_bytes(b"packed")
    (root / "odd.js").write_bytes(b"odd")
    (root / "odd.js.gz").mkdir()
    (root / "docs" / "index.html").write_bytes(b"<p>docs")
    (root / "docs" / "index.html.br").write_bytes(b"docs in br")
    (root / "404.html").write_bytes(b"<p>nothing")
    (root / "404.html.gz").write_bytes(b"never sent")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "inside.txt").write_bytes(b"inside")
    (root / "inside.txt.gz").symlink_to(tmp_path / "secret.txt")
    for name in ("app.js", "app.js.br", "app.js.zst", "app.js.gz"):
        os.utime(root / name, (1_700_000_000, 1_700_000_000))
    return root


@handler
async def theirs(scope, receive, send):
    await send_text(send, f"application: {scope['path']}")


def serving(folder, app=theirs, **more):
    return running(app, static_path=[f"/static={folder}"], **more)


@both_protocols
def test_files_before_the_application(folder):
    with serving(folder) as server:
        status, fields, body = server.get("/static/app.js")
        assert (status, body) == (200, CODE)
        fields = {name.lower(): value for name, value in fields.items()}
        assert fields["content-type"] == TYPE
        assert fields["content-length"] == str(len(CODE))
        assert fields["accept-ranges"] == "bytes"
        assert fields["last-modified"] == formatdate(1_700_000_000, usegmt=True)
        assert "vary" not in fields
        assert server.get("/static/app.js", **{"If-None-Match": fields["etag"]})[0] == 304
        since = {"If-Modified-Since": fields["last-modified"]}
        assert server.get("/static/app.js", **since)[0] == 304
        status, fields, body = server.get("/static/app.js", Range="bytes=4-8")
        assert (status, body) == (206, CODE[4:9])
        status, _, body = server.request("HEAD", "/static/app.js")
        assert (status, body) == (200, b"")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            status, fields, _ = server.request(method, "/static/app.js")
            assert (status, fields.get("allow") or fields.get("Allow")) == (405, "GET, HEAD")
        assert server.get("/static/absent.js")[0] == 404
        for path in ("/", "/staticfile", "/stati", "/other/static/app.js"):
            assert server.get(path)[2] == f"application: {path}".encode()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/docs/../../secret.txt",
        "/static/..%2fsecret.txt",
        "/static/..%5csecret.txt",
        "/static//../secret.txt",
        "/static/link.txt",
        "/static/plain.txt%00",
        "/static/plain.txt/",
        "/static/docs",
        "/static/docs/",
        "/static/",
    ],
)
def test_nothing_beside_the_files(folder, path):
    with serving(folder) as server:
        for _ in range(2):  # the first is Python's
            status, _, body = server.get(path)
            plain = path == "/static/plain.txt/"  # as StaticFiles has it
            assert (status, b"secret" in body) == (200 if plain else 404, False)


def test_as_static_files_answers(folder, threads):
    """Beside Starlette's own, which has the same folder."""
    app = Starlette(routes=[Mount("/static", PrecompressedStaticFiles(directory=folder))])
    with serving(folder, static_precompressed=True) as server:
        for name in ("app.js", "plain.txt", "only.css"):
            # Python checks the configuration once, and brings each name into memory.
            for coding in ("gzip", "br", "zstd"):
                by_server(server, "GET", f"/static/{name}", [("accept-encoding", coding)])
        threads.clear()
        for accepted in ([], ["gzip"], ["br, zstd"], ["zstd;q=0.1", "gzip;q=0.2"], ["identity"]):
            accepting = [("accept-encoding", each) for each in accepted]
            for more in (
                [],
                [("range", "bytes=2-5")],
                [("range", "bytes=-3")],
                [("if-modified-since", formatdate(1_700_000_000, usegmt=True))],
                [("if-none-match", "*")],
                [("if-none-match", '"other"')],
            ):
                for method in ("GET", "HEAD"):
                    for path in ("/static/app.js", "/static/plain.txt", "/static/only.css"):
                        asked = (method, path, [*accepting, *more])
                        status, fields, body = by_server(server, *asked)
                        assert threads == []  # C has served it
                        theirs = by_starlette(app, *asked)
                        threads.clear()
                        assert (status, sorted(fields), body) == (
                            theirs[0],
                            sorted(theirs[1]),
                            theirs[2],
                        )
        several = [("range", "bytes=0-1,4-5"), ("accept-encoding", "br")]
        got = hide_boundary(by_server(server, "GET", "/static/app.js", several))
        assert got[0] == 206
        assert dict(got[1])["content-encoding"] == "br"


PREFERENCES = [
    (None, "", CODE),
    ("gzip", "gzip", b"gzip of it" * 4000),
    ("gzip, br, zstd", "zstd", b"zstd!!!!"),
    ("gzip;q=0.9, br;q=0.95, zstd;q=0.1", "br", b"brotli!!"),
    ("br;q=0, *", "zstd", b"zstd!!!!"),
    ("deflate", "", CODE),
    ("identity, gzip;q=0.5", "", CODE),
    ("identity;q=0", "", CODE),
    ("x-gzip", "gzip", b"gzip of it" * 4000),
]


@both_protocols
def test_what_the_client_likes_best(folder):
    with serving(folder, static_precompressed=True) as server:
        tags = set()
        for accepted, coding, content in PREFERENCES:
            given = {} if accepted is None else {"Accept-Encoding": accepted}
            status, fields, body = server.get("/static/app.js", **given)
            fields = {name.lower(): value for name, value in fields.items()}
            assert (status, fields.get("content-encoding", ""), body) == (200, coding, content)
            assert fields["content-type"] == TYPE
            assert fields["vary"] == "Accept-Encoding"
            tag = fields["etag"]
            tags.add(tag)
            assert not tag.startswith("W/")
            answer = server.get("/static/app.js", **given, **{"If-None-Match": f'"x", W/{tag}'})
            assert answer[0] == 304
            kept = {name.lower(): value for name, value in answer[1].items()}
            assert (kept["vary"], kept["etag"]) == ("Accept-Encoding", tag)
            assert "content-encoding" not in kept
            # A part of what was begun in another coding would be garbage.
            part = {"Range": "bytes=1-4"}
            status, _, body = server.get("/static/app.js", **given, **part, **{"If-Range": tag})
            assert (status, body) == (206, content[1:5])
            other = next((each for each in tags if each != tag), '"other"')
            status, _, body = server.get("/static/app.js", **given, **part, **{"If-Range": other})
            assert (status, body) == (200, content)
        # br and zstd are of the same size and time.
        assert len(tags) == 4


def test_what_lies_beside_is_a_file_below_the_folder(folder):
    with serving(folder, static_precompressed=True) as server:
        for _ in range(2):
            for name, content in (("odd.js", b"odd"), ("inside.txt", b"inside")):
                status, fields, body = server.get(f"/static/{name}", **{"Accept-Encoding": "gzip"})
                assert (status, body) == (200, content)
                assert "content-encoding" not in fields
        assert server.get("/static/app.js.gz")[2] == b"gzip of it" * 4000
        (folder / "app.js").unlink()
        assert server.get("/static/app.js", **{"Accept-Encoding": "gzip"})[0] == 404


def test_html(folder):
    with serving(folder, static_html=True, static_precompressed=True) as server:
        for _ in range(2):
            for accepted, body in (("br", b"docs in br"), ("gzip", b"<p>docs")):
                answer = server.get("/static/docs/", **{"Accept-Encoding": accepted})
                assert (answer[0], answer[2]) == (200, body)
            status, fields, _ = server.get("/static/docs")
            assert (status, fields["location"].endswith("/static/docs/")) == (307, True)
            answer = server.get("/static/absent", **{"Accept-Encoding": "gzip"})
            assert (answer[0], answer[2]) == (404, b"<p>nothing")


def test_it_is_packed_once(folder):
    """`--compress` leaves alone what was packed beforehand, and packs the rest."""
    (folder / "small.txt").write_bytes(b"a" * 5000)
    more = {"static_precompressed": True, "compress": ["gzip"], "compress_min_size": 5}
    with serving(folder, **more) as server:
        accepting = {"Accept-Encoding": "gzip"}
        status, fields, body = server.get("/static/only.css", **accepting)
        assert (status, fields["content-encoding"], body) == (200, "gzip", b"packed")
        assert not fields["etag"].startswith("W/")
        server.get("/static/small.txt", **accepting)  # by Python, which sends its path
        status, fields, body = server.get("/static/small.txt", **accepting)
        assert (fields["content-encoding"], gzip.decompress(body)) == ("gzip", b"a" * 5000)
        assert fields["etag"].startswith("W/")
        assert fields["vary"] == "Accept-Encoding"


def test_longer_prefixes_go_first(folder, tmp_path):
    (folder / "img").mkdir()
    (folder / "img" / "a.txt").write_bytes(b"below the first")
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_bytes(b"of the second")
    with running(theirs, static_path=[f"/s={folder}", f"/s/img={other}"]) as server:
        assert server.get("/s/img/a.txt")[2] == b"of the second"
        assert server.get("/s/plain.txt")[2] == b"plain"


def test_behind_a_proxy_that_strips_a_prefix(folder):
    with serving(folder, root_path="/api") as server:
        for _ in range(2):
            assert server.get("/static/plain.txt")[2] == b"plain"
        assert server.get("/x")[2] == b"application: /api/x"


def test_every_kind_of_application(folder):
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])

    @app.get("/static/route")
    async def hidden():
        return "never"

    @app.get("/x")
    async def x():
        return "x"

    def wsgi(environ, start_response):
        start_response("200 OK", [("content-length", "4")])
        return [b"wsgi"]

    with serving(folder, app, interface="turboapi") as server:
        assert server.get("/x")[2] == b'"x"'
        assert server.get("/static/route")[0] == 404
        status, fields, body = server.get("/static/plain.txt", Origin="http://x")
        assert (status, body) == (200, b"plain")
        assert "access-control-allow-origin" not in fields
    adapted = WSGIAdapter(wsgi, threads=2, multiprocess=False)
    with serving(folder, adapted, interface="wsgi") as server:
        assert server.get("/x")[2] == b"wsgi"
        assert server.get("/static/plain.txt")[2] == b"plain"


def test_websockets_are_the_applications(folder):
    seen = asyncio.Event()

    async def app(scope, receive, send):
        assert scope["type"] == "websocket"
        await receive()
        seen.set()
        await send({"type": "websocket.close"})

    asked = (
        b"GET /static/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with serving(folder, app, lifespan="off") as server:
        assert server.exchange(asked).startswith(b"HTTP/1.1 403")
        assert seen.is_set()


def test_pipelined_behind_a_task(folder):
    """Requests that are queued for a Task of the pool go to the front as well."""

    async def app(scope):
        await asyncio.sleep(0)
        return scope["path"]

    one = b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"
    asked = [b"/a", b"/static/plain.txt", b"/b", b"/static/plain.txt"]
    data = b"".join(one % (path, b"") for path in asked) + one % (b"/c", b"Connection: close\r\n")
    with serving(folder, text_app(app)) as server:
        got = server.exchange(data)
        places = [got.index(b"\r\n\r\n" + each) for each in (b"/a", b"plain", b"/b", b"/c")]
        assert places == sorted(places)
        assert got.count(b"\r\n\r\nplain") == 2


def test_a_limit_counts_them(folder):
    @handler
    async def waits(scope, receive, send):
        await forever()

    more = {"limit_concurrency": 1, "timeout_graceful_shutdown": 0.1}
    with serving(folder, waits, **more) as server, server.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        while server.get("/static/plain.txt")[0] != 503:
            pass


def test_from_the_command_line(folder, tmp_path):
    (tmp_path / "main.py").write_text(APP)
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    more = ("--static-path", f"/static={folder}", "--static-precompressed", "--static-html")
    with Server(
        tmp_path, "run", "main:app", *LOCAL, *more, "--metrics", f"unix:{tmp_path}/metrics",
        "--ssl-certfile", certificate, "--ssl-keyfile", key,
        "--access-log-format", "{target} {route} {status} {bytes_out}",
    ) as server:  # fmt: skip
        server.port = int(server.saw(r"Listening on https://[^ ]*:(\d+)")[1])
        context = ssl.create_default_context(cafile=authority.file)
        connection = http.client.HTTPSConnection("localhost", server.port, context=context)
        connection.sock = context.wrap_socket(
            socket.create_connection(("127.0.0.1", server.port)), server_hostname="localhost"
        )
        for path in ("/static/only.css", "/static/docs/", "/"):
            connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
            response = connection.getresponse()
            body = response.read()
            expected = {"/": b"one", "/static/docs/": b"<p>docs"}.get(path, b"packed")
            assert (response.status, body) == (200, expected)
        server.saw(r"/static/only.css /static 200 6")
        with socket.socket(socket.AF_UNIX) as metrics:
            metrics.connect(f"{tmp_path}/metrics")
            metrics.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b""
            while chunk := metrics.recv(65536):
                text += chunk
        assert b'route="/static"' in text
        connection.close()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("/static", "must be PREFIX=DIR"),
        ("/static=", "must be PREFIX=DIR"),
        ("static=x", "must have a prefix such as"),
        ("/a/../b=x", "must have a prefix such as"),
        ("/a//b=x", "must have a prefix such as"),
        ("/{a}=x", "must have a prefix such as"),
        ("/a%20=x", "must have a prefix such as"),
        ("/=x", "all paths would be hidden"),
        ("=x", "all paths would be hidden"),
    ],
)
def test_wrong_values(value, message):
    with pytest.raises(ConfigError, match=message):
        Config(static_path=[value])


def test_wrong_combinations(tmp_path):
    with pytest.raises(ConfigError, match="/a is given twice"):
        Config(static_path=["/a=x", "/a/=y"])
    for name in ("static_html", "static_precompressed"):
        with pytest.raises(ConfigError, match=f"{name}: needs static_path"):
            Config(**{name: True})
    (tmp_path / "main.py").write_text(APP)
    code, output = run(tmp_path, "run", "main:app", *LOCAL, "--static-path", "/a=absent")
    assert code == 2
    assert "there is no folder absent (for /a)" in output
    (tmp_path / "file").write_text("")
    code, output = run(tmp_path, "run", "main:app", *LOCAL, TURBOAPI_STATIC_PATH="/a=file")
    assert code == 2
    assert "there is no folder file (for /a)" in output


def test_wrong_codings(tmp_path):
    with pytest.raises(ValueError, match="codings must be some of"):
        PrecompressedStaticFiles(directory=tmp_path, codings=["lzma"])
