"""Files that C sends, mounts of StaticFiles and FileResponses of plans, beside Starlette's own."""

import asyncio
import contextlib
import os
import time
from email.utils import formatdate
from urllib.parse import unquote_to_bytes

import anyio.to_thread
import pytest
from server_kit import running, wait_for
from starlette import responses as starlette_responses
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from turboapi import BackgroundTasks, FastAPI
from turboapi.responses import FileResponse

# What the server adds, or that says when.
ADDED = {"date", "server", "connection"}


def by_starlette(app, method, path, headers):
    """Status, fields and body that an ASGI application sends."""
    raw_path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.strip(" \t").encode("latin-1")) for k, v in headers],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    fields = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in sent[0]["headers"]]
    body = b"".join(each.get("body", b"") for each in sent[1:])
    return sent[0]["status"], fields, b"" if method == "HEAD" else body


def by_server(server, method, path, headers):
    with server.client() as conn:
        conn.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in [("host", "127.0.0.1"), *headers]:
            conn.putheader(name, value)
        conn.endheaders()
        response = conn.getresponse()
        body = response.read()
        fields = [(k.lower(), v) for k, v in response.getheaders() if k.lower() not in ADDED]
        return response.status, fields, body


def hide_boundary(answer):
    status, fields, body = answer
    kind = dict(fields).get("content-type", "")
    if kind.startswith("multipart/byteranges"):
        boundary = kind.partition("boundary=")[2]
        fields = [(k, v.replace(boundary, "BOUNDARY")) for k, v in fields]
        body = body.replace(boundary.encode(), b"BOUNDARY")
    return status, fields, body


@pytest.fixture
def threads(monkeypatch):
    """How often Starlette's code has used a thread: C has served what used none."""
    original = anyio.to_thread.run_sync
    calls = []

    async def run_sync(function, *args, **kwargs):
        calls.append(function)
        return await original(function, *args, **kwargs)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_sync)
    return calls


async def adds(request, call_next):
    response = await call_next(request)
    response.headers["x-a"] = response.headers.get("etag", "none")
    return response


async def passes(request, call_next):
    return await call_next(request)


def add_status(message):
    if message["type"] == "http.response.start":
        message["headers"].append((b"x-a", str(message["status"]).encode()))


class Watches:
    """Middleware that gets the messages of responses."""

    def __init__(self, app, see=add_status):
        self.app = app
        self.see = see

    async def __call__(self, scope, receive, send):
        async def watch(message):
            self.see(message)
            await send(message)

        await self.app(scope, receive, watch if scope["type"] == "http" else send)


@pytest.fixture(params=["direct", "middleware", "messages"])
def settings(request):
    """Of an application without middleware, and of those whose middleware gets the responses."""
    if request.param == "messages":
        return {"middleware": [Middleware(Watches)]}
    functions = (adds, passes) if request.param == "middleware" else ()
    return {"middleware": [Middleware(BaseHTTPMiddleware, dispatch=each) for each in functions]}


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "static"
    root.mkdir()
    (root / "hello.txt").write_text("hello" * 100)
    (root / "empty.css").write_text("")
    (root / "big.bin").write_bytes(bytes(range(256)) * 1000)
    (root / "page.HTML").write_text("<p>")
    (root / "code.js").write_text("1")
    (root / "packed.tar.gz").write_bytes(b"gz")
    (root / "style.css.gz").write_bytes(b"gz")
    (root / "old.tgz").write_bytes(b"gz")
    (root / "no_suffix").write_text("n")
    (root / ".hidden").write_text("h")
    (root / "..dots.json").write_text("{}")
    (root / "ends.").write_text("e")
    (root / "strange.x\u00e4y").write_text("u")
    (root / "\u00fcber.txt").write_text("u")
    (root / "with space+plus%.txt").write_text("s")
    (root / "a:b.txt").write_text("c")
    (root / "sub").mkdir()
    (root / "sub" / "in.json").write_text("{}")
    (root / "sub" / "index.html").write_text("<h1>sub</h1>")
    (root / "bare").mkdir()
    (root / "index.html").write_text("<h1>root</h1>")
    (root / "404.html").write_text("<h1>none</h1>")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "static-other").mkdir()
    (tmp_path / "static-other" / "s.txt").write_text("secret")
    (root / "link.txt").symlink_to(root / "hello.txt")
    (root / "relative.png").symlink_to("hello.txt")
    (root / "out.txt").symlink_to(tmp_path / "secret.txt")
    (root / "beside.txt").symlink_to(tmp_path / "static-other" / "s.txt")
    (root / "dangling.txt").symlink_to(root / "nowhere")
    (root / "loop.txt").symlink_to(root / "loop.txt")
    (root / "sublink").symlink_to(root / "sub")
    (root / "outdir").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    second = tmp_path / "second"
    second.mkdir()
    (second / "hello.txt").write_text("second")
    (second / "only.txt").write_text("only here")
    (second / "sub").write_text("a file there, a directory here")
    (tmp_path / "alias").symlink_to(root)
    os.utime(root / "hello.txt", (1_700_000_000.25, 1_700_000_000.25))
    os.utime(root / "code.js", ns=(1, 1_700_000_000_999_999_900))
    os.utime(root / "sub" / "in.json", (0, 0))
    return tmp_path


_PATHS = """
/hello.txt /empty.css /big.bin /page.HTML /code.js /packed.tar.gz /style.css.gz /old.tgz /no_suffix
/.hidden /..dots.json /ends. /strange.x%C3%A4y /%C3%BCber.txt /with%20space+plus%25.txt /a:b.txt
/%FC.txt /sub/in.json /sub /sub/ /sub/index.html /bare /bare/ / /index.html /404.html
/absent /absent/ /sub/absent /hello.txt/ /hello.txt/below /hello.txt/.. //hello.txt /./hello.txt
/sub/../hello.txt /sub/./in.json /sub//in.json /../secret.txt /../static/hello.txt
/sub/../../secret.txt /%2e%2e/secret.txt /sub%2fin.json /sub/..%2f..%2fsecret.txt
/..%5csecret.txt /%5chello.txt /hello.txt%00 /%00 /link.txt /relative.png /out.txt /beside.txt
/dangling.txt /sublink/in.json /sublink /sublink/ /outdir/secret.txt /fifo /only.txt
/hello.txt?query=1 /HELLO.txt /hello.txt%0A
"""
PATHS = _PATHS.split()


def options(tree):
    root, second = tree / "static", tree / "second"
    return {
        "plain": {"directory": root},
        "html": {"directory": str(root), "html": True},
        "follow": {"directory": root, "follow_symlink": True},
        "follow_html": {"directory": f"{root}/", "follow_symlink": True, "html": True},
        "alias": {"directory": tree / "alias", "html": True},
        "packages": {"packages": [("turboapi", "openapi")]},
        "relative": {"directory": os.path.relpath(root)},
        "two": {"directory": second},
    }


def mounted(kind, static, **settings):
    if kind is FastAPI:
        app = FastAPI(openapi_url=None, **settings)
        app.mount("/static", static)
        return app
    app = Starlette(
        routes=[Mount("/static", static)],
        exception_handlers={HTTPException: FastAPI().exception_handlers[HTTPException]},
        **settings,
    )
    app.router.redirect_slashes = True
    return app


def compare(server, starlette, path, headers=(), method="GET"):
    theirs = by_starlette(starlette, method, path, headers)
    ours = by_server(server, method, path, headers)
    assert hide_boundary(ours) == hide_boundary(theirs), (method, path, headers)
    return ours


@pytest.mark.parametrize(
    "name", ["plain", "html", "follow", "follow_html", "alias", "packages", "relative", "two"]
)
def test_every_path_is_answered_as_by_starlette(tree, settings, name):
    made = options(tree)[name]
    with running(mounted(FastAPI, StaticFiles(**made), **settings)) as server:
        starlette = mounted(Starlette, StaticFiles(**made), **settings)
        for path in PATHS:
            for method in ("GET", "HEAD"):
                compare(server, starlette, "/static" + path, method=method)


def test_several_directories_are_searched_in_order(tree, settings):
    first = StaticFiles(directory=tree / "static", html=True)
    first.all_directories.append(tree / "second")
    with running(mounted(FastAPI, first, **settings)) as server:
        starlette = mounted(Starlette, first, **settings)
        for path in PATHS:
            compare(server, starlette, "/static" + path)


def test_c_serves_files_without_a_thread(tree, settings, threads):
    made = {"directory": tree / "static", "html": True}
    with running(mounted(FastAPI, StaticFiles(**made), **settings)) as server:
        for path in ("/hello.txt", "/big.bin", "/", "/sub/", "/absent", "/link.txt", "/old.tgz"):
            # At first the system may not have the path in its cache.
            by_server(server, "GET", "/static" + path, [])
            wait_for(lambda: server.server.tasks == 0)
            threads.clear()
            by_server(server, "GET", "/static" + path, [])
            assert threads == [], path


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "QUERY"])
def test_other_methods_are_refused(tree, settings, method):
    static = StaticFiles(directory=tree / "static")
    with running(mounted(FastAPI, static, **settings)) as server:
        starlette = mounted(Starlette, static, **settings)
        for path in ("/static/hello.txt", "/static/absent"):
            compare(server, starlette, path, method=method)


_RANGES = """
bytes=0-0 bytes=0-99 bytes=100- bytes=-5 bytes=-0 bytes=-99999999 bytes=0-99999999 bytes=499-499
bytes=499-600 bytes=500-600 bytes=5-4 bytes=600- bytes=0-1,3-4 bytes=0-1,1-2 bytes=0-1,0-1
bytes=,0-1 bytes=0-1, bytes= bytes=- bytes=a-b bytes=1-b bytes=-b bytes=1 bytes 0-1 Bytes=0-1 lines=0-1
bytes=0-1-2 bytes=+1-2 bytes=1_0-2_0 bytes=99999999999999999999- bytes=0-99999999999999999999
bytes=-99999999999999999999 garbage bytes=\u00b2-
"""
RANGES = [
    *_RANGES.split(),
    "bytes= 0-1",
    "bytes=0 - 1",
    " bytes=0-1 ",
    "bytes =0-1",
    "",
    "bytes=0-0," * 101,
]


def test_ranges(tree, settings):
    static = StaticFiles(directory=tree / "static", html=True)
    with running(mounted(FastAPI, static, **settings)) as server:
        starlette = mounted(Starlette, static, **settings)
        for value in RANGES:
            for path in ("/hello.txt", "/empty.css", "/absent", "/big.bin"):
                compare(server, starlette, "/static" + path, [("range", value)])
            compare(server, starlette, "/static/hello.txt", [("range", value)], "HEAD")
        compare(
            server, starlette, "/static/hello.txt", [("range", "bytes=0-1"), ("range", "bytes=5-")]
        )


def test_conditions(tree, settings):
    static = StaticFiles(directory=tree / "static", html=True)
    with running(mounted(FastAPI, static, **settings)) as server:
        starlette = mounted(Starlette, static, **settings)
        fields = dict(compare(server, starlette, "/static/hello.txt")[1])
        etag, modified = fields["etag"], fields["last-modified"]
        tags = [etag, f"W/{etag}", "*", " * ", '"other"', f'"other", {etag}', f"{etag[:-1]}", ""]
        tags += [
            f'"a",W/{etag} ,"b"',
            ",",
            f",,{etag}",
            f"{etag}\u00a0",
            f"\t{etag}\t",
            "W/",
            "w/*",
        ]
        for tag in tags:
            for more in ([], [("if-modified-since", formatdate(0, usegmt=True))]):
                given = [("if-none-match", tag), *more]
                compare(server, starlette, "/static/hello.txt", given)
                compare(server, starlette, "/static/absent", given)
            for value in (tag, modified):
                both = [("range", "bytes=0-3"), ("if-range", value), ("if-none-match", tag)]
                compare(server, starlette, "/static/hello.txt", both)
                compare(server, starlette, "/static/hello.txt", both[:2])
        mtime = 1_700_000_000
        dates = [formatdate(mtime + d, usegmt=True) for d in (-86400 * 400, -1, 0, 1, 86400 * 40)]
        dates += [formatdate(mtime), "garbage", "Tuesday, 14-Nov-23 22:13:20 GMT", "0", ""]
        dates += ["Tue Nov 14 22:13:20 2023", "Tue, 32 Nov 2023 22:13:20 GMT", "14 Nov 2023"]
        dates += ["Xyz, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Foo 2023 22:13:20 GMT"]
        dates += ["Tue, 14 Nov 0023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:20 -0500"]
        for date in dates:
            for method in ("GET", "HEAD"):
                given = [("if-modified-since", date)]
                compare(server, starlette, "/static/hello.txt", given, method)


def test_a_file_that_changes_is_served_as_it_is(tree, settings, threads):
    file = tree / "static" / "changing.txt"
    static = StaticFiles(directory=tree / "static")
    with running(mounted(FastAPI, static, **settings)) as server:
        starlette = mounted(Starlette, static, **settings)
        compare(server, starlette, "/static/changing.txt")
        for number, text in enumerate(["one", "three", "", "x" * 100_000, "t"]):
            file.write_text(text)
            os.utime(file, (number, 1_600_000_000 + number))
            assert compare(server, starlette, "/static/changing.txt")[2] == text.encode()
            fresh = tree / "fresh"
            fresh.write_text(text[::-1] + "!")
            fresh.replace(file)
            compare(server, starlette, "/static/changing.txt")
        file.unlink()
        assert compare(server, starlette, "/static/changing.txt")[0] == 404
        file.mkdir()
        assert compare(server, starlette, "/static/changing.txt")[0] == 404
        # A directory that is replaced, as when a new release is made current.
        (tree / "static").rename(tree / "old")
        assert compare(server, starlette, "/static/hello.txt")[0] == 404
        (tree / "static").mkdir()
        (tree / "static" / "hello.txt").write_text("new release")
        assert compare(server, starlette, "/static/hello.txt")[2] == b"new release"


def test_tags_and_times_of_many_files(tree):
    """More than C keeps, and some that differ in one thing only."""
    static = StaticFiles(directory=tree / "static")
    given = [(size, 1_600_000_000, 0) for size in range(100)]
    given += [(7, 1_600_000_000 + second, 0) for second in range(60)]
    given += [(7, 1_600_000_000, 1 << bit) for bit in range(30)]
    given += [(7, -1, 999_999_999), (7, 0, 0), (7, 1 << 33, 1)]
    for size, second, nanosecond in given:
        file = tree / "static" / f"{size}.{second}.{nanosecond}.txt"
        file.write_bytes(b"x" * size)
        os.utime(file, ns=(0, second * 10**9 + nanosecond))
    with running(mounted(FastAPI, static)) as server:
        starlette = mounted(Starlette, static)
        for _ in range(2):
            for each in given:
                compare(server, starlette, "/static/{}.{}.{}.txt".format(*each), [])


def test_a_missing_directory_is_told_once_until_it_is_there(tmp_path):
    static = StaticFiles(directory=tmp_path / "later", check_dir=False)
    with running(mounted(FastAPI, static)) as server:
        assert by_server(server, "GET", "/static/a.txt", [])[0] == 500
        (tmp_path / "later").mkdir()
        assert by_server(server, "GET", "/static/a.txt", [])[0] == 404
        (tmp_path / "later" / "a.txt").write_text("a")
        assert by_server(server, "GET", "/static/a.txt", [])[::2] == (200, b"a")
        assert by_server(server, "GET", "/static/a.txt", [])[::2] == (200, b"a")


def test_errors_of_the_system(tree):
    static = StaticFiles(directory=tree / "static")
    with running(mounted(FastAPI, static)) as server:
        starlette = mounted(Starlette, static)
        for path in ("/" + "n" * 300, "/" + "n/" * 2500 + "x", "/" + "n" * 255):
            assert compare(server, starlette, "/static" + path)[0] == 404
        closed = tree / "static" / "closed"
        closed.mkdir()
        (closed / "file.txt").write_text("f")
        closed.chmod(0)
        try:
            status = compare(server, starlette, "/static/closed/file.txt")[0]
            assert status == (401 if os.geteuid() else 200)
        finally:
            closed.chmod(0o700)


def test_what_was_replaced_is_called(tree, monkeypatch):
    called = []

    class Own(StaticFiles):
        def file_response(self, *args, **kwargs):
            called.append("file_response")
            return super().file_response(*args, **kwargs)

    class Looks(StaticFiles):
        def lookup_path(self, path):
            called.append("lookup_path")
            return super().lookup_path(path)

    for kind in (Own, Looks):
        with running(mounted(FastAPI, kind(directory=tree / "static"))) as server:
            assert by_server(server, "GET", "/static/hello.txt", [])[0] == 200
            assert by_server(server, "GET", "/static/hello.txt", [])[0] == 200
    assert called == ["file_response"] * 2 + ["lookup_path"] * 2

    static = StaticFiles(directory=tree / "static")
    with running(mounted(FastAPI, static)) as server:
        for _ in range(2):
            assert by_server(server, "GET", "/static/hello.txt", [])[0] == 200
        lookup = StaticFiles.lookup_path
        called.clear()

        def patched(self, path):
            called.append(path)
            return lookup(self, path)

        monkeypatch.setattr(StaticFiles, "lookup_path", patched)
        by_server(server, "GET", "/static/hello.txt", [])
        assert called == ["hello.txt"]
        monkeypatch.undo()
        monkeypatch.setattr(starlette_responses, "guess_type", lambda path: ("own/type", None))
        fields = dict(by_server(server, "GET", "/static/hello.txt", [])[1])
        assert fields["content-type"] == "own/type"
        monkeypatch.undo()
        # Settings may change, too.
        static.html = True
        assert by_server(server, "GET", "/static/sub/", [])[2] == b"<h1>sub</h1>"
        static.all_directories = [tree / "second"]
        assert by_server(server, "GET", "/static/only.txt", [])[2] == b"only here"
        static.all_directories.insert(0, tree / "static")
        assert by_server(server, "GET", "/static/hello.txt", [])[2] == b"hello" * 100


def test_types_that_are_added(tree):
    import mimetypes

    (tree / "static" / "a.turbo-type").write_text("a")
    static = StaticFiles(directory=tree / "static")
    with running(mounted(FastAPI, static)) as server:
        starlette = mounted(Starlette, static)
        compare(server, starlette, "/static/a.turbo-type")
        mimetypes.add_type("text/turbo", ".turbo-type")
        try:
            fields = dict(compare(server, starlette, "/static/a.turbo-type")[1])
            assert fields["content-type"] == "text/turbo; charset=utf-8"
            mimetypes.add_type("text/x; Charset=utf-16", ".turbo-type")
            compare(server, starlette, "/static/a.turbo-type")
        finally:
            mimetypes.types_map.pop(".turbo-type", None)


def test_middleware_and_handlers_apply(tree):
    static = StaticFiles(directory=tree / "static", html=False)
    middleware = [Middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["x-a"])]
    with running(mounted(FastAPI, static, middleware=middleware)) as server:
        starlette = mounted(Starlette, static, middleware=middleware)
        for path in ("/hello.txt", "/absent", "/big.bin"):
            for method in ("GET", "HEAD", "POST"):
                compare(server, starlette, "/static" + path, [("origin", "http://a")], method)

    app = mounted(FastAPI, static)

    @app.exception_handler(404)
    async def own_404(request, exc):
        return starlette_responses.PlainTextResponse("own", 404)

    with running(app) as server:
        for _ in range(2):
            assert by_server(server, "GET", "/static/absent", [])[::2] == (404, b"own")

    outer = FastAPI()
    outer.mount("/inner", mounted(FastAPI, static))
    with running(outer) as server:
        for _ in range(2):
            assert by_server(server, "GET", "/inner/static/hello.txt", [])[2] == b"hello" * 100
            assert by_server(server, "GET", "/inner/static/absent", [])[0] == 404


# -- FileResponse ------------------------------------------------------------------------------


def file_app(kind, make, **settings):
    """An application whose /file returns what `make()` returns."""
    if kind is FastAPI:
        app = FastAPI(openapi_url=None, **settings)
        app.add_api_route("/file", lambda: make(), methods=["GET", "HEAD", "POST"])
        return app

    async def endpoint(request):
        return make()

    routes = [Route("/file", endpoint, methods=["GET", "HEAD", "POST"])]
    return Starlette(routes=routes, **settings)


RESPONSES = {
    "plain": {},
    "filename": {"filename": "a b.txt"},
    "filename_utf8": {"filename": "\u00fc.txt"},
    "inline": {"filename": "a.txt", "content_disposition_type": "inline"},
    "status": {"status_code": 201},
    "type": {"media_type": "text/x-own"},
    "headers": {"headers": {"X-A": "b", "ETag": '"mine"', "Last-Modified": "never"}},
    "weak": {"headers": {"etag": 'W/"mine"'}},
    "length": {"headers": {"content-length": "500"}},
    "range": {"headers": {"content-range": "none"}},
    "accept": {"headers": {"accept-ranges": "none", "content-type": "a/b"}},
}


@pytest.mark.parametrize("name", RESPONSES)
def test_file_responses(tree, settings, name):
    def make():
        return FileResponse(tree / "static" / "hello.txt", **RESPONSES[name])

    with running(file_app(FastAPI, make, **settings)) as server:
        starlette = file_app(Starlette, make, **settings)
        fields = dict(compare(server, starlette, "/file")[1])
        for method in ("GET", "HEAD", "POST"):
            compare(server, starlette, "/file", method=method)
            for value in RANGES:
                compare(server, starlette, "/file", [("range", value)], method)
        for value in (fields["etag"], fields["last-modified"], '"mine"', "never", "x", ""):
            given = [("range", "bytes=1-3"), ("if-range", value)]
            compare(server, starlette, "/file", given)


def test_file_responses_of_big_files_and_special_ones(tree, settings):
    for path in ("big.bin", "empty.css", "link.txt", "\u00fcber.txt"):

        def make(path=path):
            return FileResponse(str(tree / "static" / path))

        with running(file_app(FastAPI, make, **settings)) as server:
            starlette = file_app(Starlette, make, **settings)
            compare(server, starlette, "/file")
            compare(server, starlette, "/file", [("range", "bytes=70000-90000")])
            compare(server, starlette, "/file", [("range", "bytes=5-9")])


@pytest.mark.parametrize("size", [0, 10, 65535, 65536, 65537, 131072, 200_000])
def test_middleware_gets_a_file_in_starlette_s_pieces(tree, size):
    (tree / "static" / "sized.bin").write_bytes(b"x" * size)
    seen = []

    def note(message):
        if message["type"] == "http.response.body":
            seen.append((len(message["body"]), message.get("more_body", False)))

    def make():
        return FileResponse(tree / "static" / "sized.bin")

    asked = [("GET", "/file", []), ("GET", "/files/sized.bin", [])]
    found = []
    for kind in (FastAPI, Starlette):
        app = file_app(kind, make, middleware=[Middleware(Watches, see=note)])
        app.mount("/files", StaticFiles(directory=tree / "static"))
        with running(app) if kind is FastAPI else contextlib.nullcontext() as server:
            for method, path, headers in asked:
                if server is None:
                    by_starlette(app, method, path, headers)
                else:
                    by_server(server, method, path, headers)
        found.append(list(seen))
        seen.clear()
    assert found[0] == found[1]


def test_c_sends_file_responses_without_a_thread(tree, settings, threads):
    app = FastAPI(**settings)

    @app.get("/file")
    async def file():
        return FileResponse(tree / "static" / "big.bin")

    with running(app) as server:
        by_server(server, "GET", "/file", [])
        wait_for(lambda: server.server.tasks == 0)
        threads.clear()
        by_server(server, "GET", "/file", [])
        by_server(server, "GET", "/file", [("range", "bytes=1-2")])
        assert threads == []


def test_file_responses_that_fail(tree):
    app = FastAPI()
    errors = []

    @app.exception_handler(RuntimeError)
    async def failed(request, exc):
        errors.append(str(exc))
        return starlette_responses.PlainTextResponse("failed", 500)

    @app.get("/{name}")
    async def file(name: str):
        return FileResponse(tree / "static" / name)

    with running(app) as server:
        for name in ("absent", "sub", "fifo"):
            assert by_server(server, "GET", f"/{name}", [])[::2] == (500, b"failed")
        assert [each.partition(" is ")[2] or each[-15:] for each in errors] == [
            "does not exist.",
            "not a file.",
            "not a file.",
        ]


def test_file_responses_run_their_background(tree):
    app = FastAPI()
    done = []

    @app.get("/own")
    async def own():
        task = BackgroundTask(done.append, "own")
        return FileResponse(tree / "static" / "hello.txt", background=task)

    @app.get("/injected")
    async def injected(tasks: BackgroundTasks):
        tasks.add_task(done.append, "injected")
        return FileResponse(tree / "static" / "big.bin")

    with running(app) as server:
        for name in ("own", "injected"):
            assert by_server(server, "GET", f"/{name}", [])[0] == 200
            limit = time.monotonic() + 20
            while name not in done and time.monotonic() < limit:
                time.sleep(0.01)
    assert done == ["own", "injected"]


def test_subclasses_and_patches_of_file_responses_are_called(tree, settings, monkeypatch):
    called = []

    class Own(FileResponse):
        def set_stat_headers(self, stat_result):
            called.append("own")
            super().set_stat_headers(stat_result)

    def make():
        return Own(tree / "static" / "hello.txt")

    with running(file_app(FastAPI, make, **settings)) as server:
        compare(server, file_app(Starlette, make, **settings), "/file")
    assert called == ["own"] * 2

    original = FileResponse.set_stat_headers

    def patched(self, stat_result):
        called.append("patched")
        original(self, stat_result)

    def make_plain():
        return FileResponse(tree / "static" / "hello.txt")

    with running(file_app(FastAPI, make_plain, **settings)) as server:
        by_server(server, "GET", "/file", [])  # C knows the class now
        with monkeypatch.context() as patch:
            patch.setattr(FileResponse, "set_stat_headers", patched)
            by_server(server, "GET", "/file", [])
            assert called == ["own"] * 2 + ["patched"]
        by_server(server, "GET", "/file", [])
        # Of a base class.
        monkeypatch.setattr(starlette_responses.FileResponse, "set_stat_headers", patched)
        by_server(server, "GET", "/file", [])
    assert called == ["own"] * 2 + ["patched"] * 2


# -- middleware that looks at files --------------------------------------------------------------


def looking_app(kind, tree, log, bodies):
    """An application with files whose middleware notes what it gets, and changes it."""

    async def looks(request, call_next):
        response = await call_next(request)
        scope = request.scope
        log.append((response.status_code, response.headers.items(), request.url.path))
        log.append([scope.get("root_path"), scope.get("app_root_path"), scope.get("path_params")])
        log.append(scope.get("endpoint") is static)
        if request.query_params.get("read"):
            response.body_iterator = read(response.body_iterator)
        return response

    async def read(pieces):
        body = b"".join([piece async for piece in pieces])
        bodies.append(len(body))
        yield body.swapcase()

    async def replaces(request, call_next):
        response = await call_next(request)
        if request.query_params.get("replace"):
            return FileResponse(tree / "static" / "code.js", 203)
        return response

    static = StaticFiles(directory=tree / "static", html=True)
    functions = (looks, replaces, looks)
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=each) for each in functions]
    return mounted(kind, static, middleware=middleware)


@pytest.mark.parametrize("query", ["", "?read=1", "?replace=1"])
@pytest.mark.parametrize(
    "path", ["/hello.txt", "/big.bin", "/empty.css", "/absent", "/sub/", "/sub", "/%2e%2e/a"]
)
def test_middleware_gets_files_as_from_starlette(tree, path, query):
    given, expected = ([], []), ([], [])
    starlette = looking_app(Starlette, tree, *expected)
    with running(looking_app(FastAPI, tree, *given)) as server:
        for method in ("GET", "HEAD"):
            for headers in ([], [("range", "bytes=0-3")], [("if-none-match", "*")]):
                compare(server, starlette, f"/static{path}{query}", headers, method)
                wait_for(lambda: given == expected)


def test_the_mount_may_be_replaced_behind_middleware(tree):
    app = looking_app(FastAPI, tree, [], [])
    with running(app) as server:
        for _ in range(2):
            assert by_server(server, "GET", "/static/only.txt", [])[0] == 404
        app.router.routes[-1].app = StaticFiles(directory=tree / "second")
        for _ in range(2):
            assert by_server(server, "GET", "/static/only.txt", [])[2] == b"only here"
        app.router.routes.clear()
        assert by_server(server, "GET", "/static/only.txt", [])[2] == b'{"detail":"Not Found"}'


def test_handlers_answer_for_files_behind_middleware(tree):
    app = looking_app(FastAPI, tree, [], [])
    app.router.routes[-1].app.html = False

    @app.exception_handler(404)
    async def own_404(request, exc):
        return starlette_responses.PlainTextResponse("own", 404)

    with running(app) as server:
        for _ in range(2):
            assert by_server(server, "GET", "/static/absent", [])[::2] == (404, b"own")
