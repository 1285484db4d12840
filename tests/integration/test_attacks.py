"""Attacks that have worked on servers, frameworks and parsers.  SECURITY.md names these tests.

Each is sent to a server as bytes. Where a parser must not take long, processor time is compared
with that of an input of half the size: twice as much is linear, four times as much is not.
"""

import gc
import gzip
import json
import re
import time
from typing import Annotated

import pytest
from server_kit import handler, read_body, read_until, running, send_text

from turboapi import Cookie, FastAPI, Request
from turboapi.responses import FileResponse, RedirectResponse, Response
from turboapi.staticfiles import StaticFiles

END = b"Host: a\r\nConnection: close\r\n\r\n"
MULTIPART = b"multipart/form-data; boundary=b"
URLENCODED = b"application/x-www-form-urlencoded"


@pytest.fixture(autouse=True)
def without_collections():
    """Keep the collector's time, which all tests before this one add to, out of what is measured."""
    gc.disable()
    yield
    gc.enable()


def status(answer):
    return int(answer[9:12])


def body(answer):
    return answer.partition(b"\r\n\r\n")[2]


# -- two requests where another parser sees one, or one where it sees two


@handler
async def echo(scope, receive, send):
    await send_text(send, b"%s|%s" % (scope["path"].encode(), await read_body(receive)))


POST = b"POST /first HTTP/1.1\r\nHost: a\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = {
    "length and coding": b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "coding and length": CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "a list of lengths": b"Content-Length: 0, 44\r\n\r\n",
    "a length with a sign": b"Content-Length: +0\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a hexadecimal length": b"Content-Length: 0x0\r\n\r\n",
    "a length with underscores": b"Content-Length: 0_0\r\n\r\n",
    "digits that are not ASCII": b"Content-Length: \xd9\xa0\r\n\r\n",
    "space before the colon": b"Content-Length : 0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked is not the last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunked behind a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in quotes": b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a coding in HTTP/1.0": None,
    "a folded line": b"X: y\r\n Content-Length: 44\r\n\r\n",
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a bare LF": b"X: y\nContent-Length: 44\r\n\r\n",
    "a bare CR": b"X: y\rContent-Length: 44\r\n\r\n",
    "NUL in a value": b"X: \0\r\n\r\n",
    "NUL in a name": b"Content\0-Length: 44\r\n\r\n",
    "a name that is not ASCII": b"Content-Length\xa0: 44\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
    "a size with 0x": CHUNKED + b"\r\n0x0\r\n\r\n",
    "a size with a sign": CHUNKED + b"\r\n+0\r\n\r\n",
    "a size with underscores": CHUNKED + b"\r\n0_0\r\n\r\n",
    "a size behind a space": CHUNKED + b"\r\n 0\r\n\r\n",
    "a size that overflows": CHUNKED + b"\r\n10000000000000000\r\n\r\n",
    "a bare LF behind a size": CHUNKED + b"\r\n2\nxx\r\n0\r\n\r\n",
    "a bare CR behind a size": CHUNKED + b"\r\n0\r\r\n\r\n",
    "LF in an extension": CHUNKED + b"\r\n0;a=\nb\r\n\r\n",
    "CR in an extension": CHUNKED + b"\r\n2;\rxx\r\n0\r\n\r\n",
    "an open quote in an extension": CHUNKED + b'\r\n0;a="\r\n\r\n',
    "two bytes of data that are no CRLF": CHUNKED + b"\r\n2\r\nxxyy0\r\n\r\n",
    "a trailer without a colon": CHUNKED + b"\r\n0\r\nx\r\n\r\n",
    "a folded trailer": CHUNKED + b"\r\n0\r\nx: y\r\n z\r\n\r\n",
    "NUL in a trailer": CHUNKED + b"\r\n0\r\nx: \0\r\n\r\n",
}


@pytest.fixture(scope="module")
def echoing():
    with running(echo) as server:
        yield server


@pytest.mark.parametrize("what", SMUGGLED)
def test_requests_that_parsers_read_differently(echoing, what):
    """Refused, and nothing that follows is read: the connection ends."""
    if what == "a coding in HTTP/1.0":
        sent = POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n"
    else:
        sent = POST + SMUGGLED[what]
    answer = echoing.exchange(sent + SECOND)
    assert status(answer) in (400, 431, 501)
    assert b"/second" not in answer
    assert b"connection: close" in answer
    assert b"200 OK" not in answer


def test_trailers_are_read_to_their_end(echoing):
    sent = POST + CHUNKED + b"\r\n2\r\nxx\r\n0\r\nContent-Length: 44\r\nHost: b\r\n\r\n"
    answer = echoing.exchange(sent + SECOND.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert re.findall(rb"/first\|xx|/second\|", answer) == [b"/first|xx", b"/second|"]


def test_trailers_are_limited(echoing):
    sent = POST + CHUNKED + b"\r\n0\r\n" + b"x: y\r\n" * 100_000 + b"\r\n"
    assert status(echoing.exchange(sent)) in (413, 431)


def test_a_body_that_is_not_read_is_no_request():
    """Of a refused request, too: what follows its head is its body."""
    app = FastAPI()

    @app.get("/second")
    async def second():
        return "second"

    with running(app, interface="turboapi") as server:
        sent = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(SECOND)
        answer = server.exchange(sent + SECOND + b"GET /nowhere HTTP/1.1\r\n" + END)
        assert answer.count(b"404 Not Found") == 2
        assert b"second" not in answer


@pytest.mark.parametrize("head", [b"Content-Length: %d\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_the_body_of_an_upgrade_is_no_request(echoing, head):
    """aiohttp and nghttpx took it for what follows the handshake."""
    inner = SECOND
    if b"%d" in head:
        sent = head % len(inner) + b"\r\n" + inner
    else:
        sent = head + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    upgrade = b"GET /first HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    upgrade += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    answer = echoing.exchange(upgrade + sent + b"GET /third HTTP/1.1\r\n" + END)
    assert b"/second|" not in answer.replace(b"|GET /second", b"")
    assert b"101 Switching" not in answer


def test_answers_come_in_the_order_of_their_requests():
    """twisted.web answered what was ready first."""
    app = FastAPI()

    @app.get("/thread")
    def thread():
        time.sleep(0.1)
        return "thread"

    @app.get("/{name}")
    async def quick(name: str):
        return name

    with running(app, interface="turboapi") as server:
        asked = [b"thread", b"a", b"thread", b"b", b"c"]
        lines = [b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % name for name in asked]
        answer = server.exchange(b"".join(lines) + b"GET /end HTTP/1.1\r\n" + END)
    assert re.findall(rb'"(\w+)"', answer) == [*asked, b"end"]


# -- hosts and targets


@pytest.mark.parametrize(
    "host",
    ["a/b?x=", "a@b", "a b", "a:99999", "a#x", "a\\b", "[::1", "a\xff", "a:80:80", "a%", ""],
)
@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
def test_hosts_do_not_change_the_url(host, interface):
    """request.url was put together from any Host, so that its path could be another."""
    app = FastAPI()

    @app.get("/{path:path}")
    async def url(request: Request):
        return [request.url.path, request.url.hostname]

    with running(app, interface=interface) as server:
        line = b"GET /admin HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
        answer = server.exchange(line % host.encode("latin-1"))
        if host and status(answer) == 200:
            assert json.loads(body(answer)) == ["/admin", host]
        else:
            assert status(answer) == (400 if host else 200)


@pytest.mark.parametrize("target", [b"@evil", b"evil", b"*", b"?x", b"\\evil", b"https:evil"])
def test_targets_are_paths(echoing, target):
    assert status(echoing.exchange(b"GET " + target + b" HTTP/1.1\r\n" + END)) == 400


def test_two_slashes_do_not_lead_to_another_host():
    """Neither request.url nor a redirect of slashes."""
    app = FastAPI()

    @app.get("/{path:path}/")
    async def url(path: str):
        return path

    with running(app, interface="turboapi") as server:
        answer = server.exchange(b"GET //evil/%2e%2e HTTP/1.1\r\n" + END)
        location = re.search(rb"location: (\S+)", answer)
        assert location is None or location[1].startswith(b"http://a/")


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x=y", "a\nb", "a\0"])
def test_responses_cannot_be_split(value):
    """Fields, redirects and cookies with what a client has sent."""
    app = FastAPI()

    @app.get("/field")
    async def field():
        return Response(headers={"x-a": value})

    @app.get("/redirect")
    async def redirect():
        return RedirectResponse(value)

    @app.get("/cookie")
    async def cookie():
        response = Response()
        response.set_cookie("a", value)
        return response

    @app.get("/domain")
    async def domain():
        response = Response()
        response.set_cookie("a", "b", domain=value)
        return response

    with running(app, interface="turboapi") as server:
        for path in ("field", "redirect", "cookie", "domain"):
            answer = server.exchange(b"GET /%s HTTP/1.1\r\n" % path.encode() + END)
            head = answer.partition(b"\r\n\r\n")[0]
            assert b"\r\nset-cookie: x=y" not in head
            assert b"\n" not in head.replace(b"\r\n", b"")
            assert b"\0" not in head


def test_methods_and_versions_are_not_reflected(echoing):
    for line in (b"GET\x0bX / HTTP/1.1", b"G<b>T / HTTP/1.1", b"GET / HTTP/1.1\x01", b"GET / X"):
        answer = echoing.exchange(line + b"\r\n" + END)
        assert status(answer) == 400
        assert b"<b>" not in answer


# -- files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "secret").write_text("secret")
    (folder / "public").mkdir()
    (folder / "public" / "a.txt").write_text("x" * 1000)
    (folder / "public" / "<b>.html").write_text("page")
    (folder / "public" / "link").symlink_to(folder / "secret")
    (folder / "public-other").mkdir()
    (folder / "public-other" / "secret").write_text("secret")
    app = FastAPI()
    app.mount("/static", StaticFiles(directory=folder / "public"))

    @app.get("/file")
    async def file():
        return FileResponse(folder / "public" / "a.txt")

    with running(app, interface="turboapi") as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        "../secret", "%2e%2e/secret", "..%2fsecret", "%2e%2e%2fsecret", "..%5csecret", ".%2e/secret",
        "/../secret", "x/../../secret", "../public-other/secret", "a.txt%00", "%00", "link", "..",
        "%2fetc/passwd", "/etc/passwd", "//etc/passwd", "%5c%5chost%5cshare", "a.txt/../../secret",
        "%252e%252e/secret", "..;/secret", "\xc0\xae\xc0\xae/secret",
    ],
)  # fmt: skip
def test_files_outside_are_not_served(files, path):
    answer = files.exchange(b"GET /static/" + path.encode("latin-1") + b" HTTP/1.1\r\n" + END)
    assert status(answer) in (400, 404)
    assert b"root:" not in answer
    assert b"secret" not in body(answer)


def test_directories_are_not_listed(files):
    """Whose names could have scripts in them."""
    for path in (b"/static/", b"/static", b"/static/?x"):
        answer = files.exchange(b"GET " + path + b" HTTP/1.1\r\n" + END)
        assert status(answer) in (404, 307)
        assert b"a.txt" not in answer


@pytest.mark.parametrize("path", [b"/static/a.txt", b"/file"])
def test_many_ranges_take_no_longer_than_few(files, path):
    def cost(count):
        ranges = b",".join(b"%d-%d" % (n % 900, n % 900 + 5) for n in range(count))
        line = b"GET " + path + b" HTTP/1.1\r\nRange: bytes=" + ranges + b"\r\n"
        files.exchange(line + END)
        begun = time.process_time()
        for _ in range(5):
            answer = files.exchange(line + END)
            assert status(answer) in (200, 206, 400, 416)
            assert len(answer) < 20_000
        return time.process_time() - begun

    assert cost(1000) < 8 * cost(250) + 0.05


@pytest.mark.parametrize(
    "value", ["bytes=\u0661-", "bytes=1-2-3", "bytes=-", "bytes=9" + "9" * 4000]
)
def test_ranges_that_are_none(files, value):
    line = b"GET /static/a.txt HTTP/1.1\r\nRange: " + value.encode() + b"\r\n"
    assert status(files.exchange(line + END)) in (200, 400, 416)


# -- forms


@pytest.fixture(scope="module")
def forms():
    app = FastAPI()

    @app.post("/")
    async def read(request: Request):
        async with request.form() as form:
            return [
                [name, value if isinstance(value, str) else value.filename]
                for name, value in form.multi_items()
            ]

    @app.get("/cookies")
    async def cookies(request: Request, a: Annotated[str | None, Cookie()] = None):
        return [len(request.cookies), a and len(a)]

    with running(app, interface="turboapi") as server:
        yield server


def post(server, kind, data):
    line = b"POST / HTTP/1.1\r\nContent-Type: %s\r\nContent-Length: %d\r\n" % (kind, len(data))
    return server.exchange(line + END + data)


def part(name=b"a", value=b"x", more=b""):
    return b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name, more, value)


def test_forms_have_limits(forms):
    """Of each kind of form: fields, files, bytes of a field."""
    pairs, parts = b"a=1&" * 999 + b"a=1", part() * 1000 + b"--b--\r\n"
    assert status(post(forms, URLENCODED, pairs)) == 200
    assert status(post(forms, URLENCODED, pairs + b"&a=1")) == 400
    assert status(post(forms, URLENCODED, b"a=" + b"x" * 1_000_000)) == 200
    assert status(post(forms, URLENCODED, b"a=" + b"x" * (2 << 20))) == 400
    assert status(post(forms, MULTIPART, parts)) == 200
    assert status(post(forms, MULTIPART, part() + parts)) == 400
    assert status(post(forms, MULTIPART, part(value=b"x" * (2 << 20)) + b"--b--\r\n")) == 400
    named = part(more=b'; filename="f"')
    assert status(post(forms, MULTIPART, named * 1001 + b"--b--\r\n")) == 400


FLOODS = {
    "bytes before the first part": lambda n: b"x" * n + b"\r\n" + part() + b"--b--\r\n",
    "lines before the first part": lambda n: b"\r\n" * n + part() + b"--b--\r\n",
    "bytes behind the last part": lambda n: part() + b"--b--\r\n" + b"x" * n,
    "lines behind the last part": lambda n: part() + b"--b--\r\n" + b"\r\n" * n,
    "fields of a part": lambda n: b"--b\r\n" + b"X: y\r\n" * (n // 6) + part()[5:] + b"--b--\r\n",
    "a long field of a part": lambda n: b"--b\r\nX: " + b"y" * n + b"\r\n" + part()[5:],
    "parameters of a part": lambda n: part(more=b';x="' * (n // 4)) + b"--b--\r\n",
    "half boundaries": lambda n: part(value=b"\r\n--" * (n // 4)) + b"--b--\r\n",
    "carriage returns": lambda n: part(value=b"\r" * n) + b"--b--\r\n",
    "malformed parts": lambda n: b"--b\r\n\r\n" * (n // 7) + b"--b--\r\n",
}


@pytest.mark.parametrize("what", FLOODS)
def test_long_forms_take_linear_time(forms, what, caplog):
    def cost(n):
        data = FLOODS[what](n)
        begun = time.process_time()
        for _ in range(3):
            assert status(post(forms, MULTIPART, data)) in (200, 400)
        return time.process_time() - begun

    cost(1000)
    small = cost(100_000)
    caplog.clear()
    assert cost(800_000) < 24 * small + 0.2
    assert len(caplog.records) < 10  # tornado logged each of many errors


def test_separators_of_forms(forms):
    """Only "&": a cache or a filter in front of us may take ";" for a part of the value."""
    assert json.loads(body(post(forms, URLENCODED, b"a=1;b=2&c=3"))) == [["a", "1;b=2"], ["c", "3"]]
    begun = time.process_time()
    assert status(post(forms, URLENCODED, b"a;" * 400_000)) == 200
    assert time.process_time() - begun < 2


def test_parameters_of_a_part_are_not_replaced(forms):
    """name* and filename* of RFC 5987 have no place in forms."""
    data = part(more=b"; name*=utf-8''b") + part(b"c", more=b"; filename=\"f\"; filename*=utf-8''g")
    seen = json.loads(body(post(forms, MULTIPART, data + b"--b--\r\n")))
    assert seen in ([["a", "x"], ["c", "f"]], [])


@pytest.mark.parametrize(
    "kind",
    [
        URLENCODED + b"; !=" + b'"' + b"\\" * 7000,
        MULTIPART + b"; x=" + b'"' + b"\\" * 7000,
        MULTIPART + b";x=y" * 1900,
    ],
)
def test_types_of_forms_take_linear_time(forms, kind):
    begun = time.process_time()
    assert status(post(forms, kind, b"")) in (200, 400)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("length", [b"-1", b"+5", b"5.0", b" ", b"0x5"])
def test_lengths_of_forms(forms, length):
    line = b"POST / HTTP/1.1\r\nContent-Type: " + URLENCODED + b"\r\nContent-Length: " + length
    assert status(forms.exchange(line + b"\r\n" + END + b"a=bcd")) == 400


@pytest.mark.parametrize(
    "value", [b'a="' + b"\\" * 7000, b";" * 7900, b'a="\\"' * 1500, b"=" * 7900]
)
def test_cookies_take_linear_time(forms, value, caplog):
    begun = time.process_time()
    for _ in range(5):
        answer = forms.exchange(b"GET /cookies HTTP/1.1\r\nCookie: " + value + b"\r\n" + END)
        assert status(answer) == 200
    assert time.process_time() - begun < 2
    assert not caplog.records


# -- packed bodies


def test_packed_requests_are_not_unpacked():
    """A bomb stays what was sent: unpacking is the application's decision."""
    bomb = gzip.compress(bytes(10_000_000))

    @handler
    async def size(scope, receive, send):
        await send_text(send, str(len(await read_body(receive))))

    with running(size) as server:
        line = b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n" % len(bomb)
        answer = server.exchange(line + END + bomb)
        assert status(answer) in (200, 415)
        if status(answer) == 200:
            assert int(body(answer)) == len(bomb)


def test_many_small_chunks_take_linear_time(echoing):
    def cost(count):
        sent = POST.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n") + CHUNKED
        data = sent + b"\r\n" + b"1\r\nx\r\n" * count + b"0\r\n\r\n"
        begun = time.process_time()
        assert len(body(echoing.exchange(data))) == count + len("/first|")
        return time.process_time() - begun

    cost(1000)
    assert cost(160_000) < 24 * cost(20_000) + 0.5


def test_many_fields_of_one_name_take_linear_time():
    def cost(count):
        sent = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * count + END
        begun = time.process_time()
        for _ in range(5):
            assert status(server.exchange(sent)) == 200
        return time.process_time() - begun

    with running(echo, limit_header_count=20_000, limit_header_bytes=1_000_000) as server:
        cost(100)
        assert cost(16_000) < 24 * cost(2_000) + 0.2


# -- WebSockets


@pytest.mark.parametrize("protocols", [b"\x80\xff", b"\xc3\xa9", b",,", b"a" * 7000, b"a\tb"])
@pytest.mark.parametrize("interface", ["turboapi", "asgi"])
def test_subprotocols_that_are_not_ascii(protocols, interface):
    """granian's worker ended."""
    app = FastAPI()

    @app.get("/")
    async def index():
        return "well"

    @app.websocket("/")
    async def websocket(websocket):
        await websocket.accept()
        await websocket.close()

    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    upgrade += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    with running(app, interface=interface) as server:
        with server.raw(upgrade + b"Sec-WebSocket-Protocol: " + protocols + b"\r\n\r\n") as sock:
            read_until(sock, b"\r\n\r\n")
        assert b"well" in server.exchange(b"GET / HTTP/1.1\r\n" + END)


# -- the log


def test_lines_of_the_error_log_cannot_be_forged(caplog):
    """Whatever a client sends is escaped, or is not there."""
    app = FastAPI()

    @app.get("/{path:path}")
    async def fail(path: str):
        raise ValueError("broken")

    with running(app, interface="turboapi", forwarded_allow_ips="*") as server:
        server.exchange(
            b"GET /a%0aERROR:%20forged%1b[2J HTTP/1.1\r\n"
            b"X-Forwarded-For: 1.2.3.4%0aERROR: forged\r\n" + END
        )
        server.exchange(b"GET /\x1b[2J\nERROR: forged HTTP/1.1\r\n" + END)
    for record in caplog.records:
        first = record.getMessage()
        assert "\n" not in first
        assert "\x1b" not in first
