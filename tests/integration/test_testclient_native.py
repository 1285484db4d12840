"""HTTP requests of the test client: the same through ASGI and over a socket to the native server."""

import asyncio
import logging
import threading
import time
from contextlib import asynccontextmanager

import pytest
from doors_kit import DOORS, both, caught
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from turboapi import (
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    Request,
    UploadFile,
    WebSocket,
)
from turboapi._testclient import NativeTestClient
from turboapi.middleware.httpsredirect import HTTPSRedirectMiddleware
from turboapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse


def once(app, use, **options):
    """A scenario: use(client) with a client of `app` that is not started."""
    return lambda client_class: use(client_class(app, **options))


# -- what the application sees


def scope_app(**options):
    app = FastAPI(**options)

    @app.api_route("/scope/{item}", methods=["GET", "POST"])
    async def read(request: Request, item: str):
        scope = request.scope
        return {
            **{k: scope[k] for k in ("path", "root_path", "scheme", "method", "http_version")},
            "server": list(scope["server"]),
            "client": list(scope["client"]),
            "query": scope["query_string"].decode(),
            "raw_path": scope["raw_path"].decode(),
            "headers": [(k.decode(), v.decode()) for k, v in scope["headers"]],
            "url": str(request.url),
            "item": item,
            "body": (await request.body()).decode(),
        }

    return app


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"base_url": "https://example.org"},
        {"base_url": "http://example.org:8080"},
        {"base_url": "http://example.org:0"},
        {"base_url": "http://bücher.example"},
        {"client": ("10.1.2.3", 4)},
        {"cookies": {"a": "b"}},
        {"headers": {"x-one": "1", "user-agent": "mine"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_scope(options, method):
    def use(client):
        content = b"text" if method == "POST" else None
        return client.request(method, "/scope/caf%C3%A9?q=%20&r", content=content).json()

    seen = both(once(scope_app(), use, **options))
    assert seen["item"] == "café"
    assert seen["scheme"] == options.get("base_url", "http").partition(":")[0]


def test_it_goes_over_a_socket():
    app = FastAPI()

    @app.get("/")
    async def read(request: Request):
        return sorted(request.scope["extensions"])

    extensions = NativeTestClient(app).get("/").json()
    assert extensions == [
        "http.response.debug",
        "http.response.early_hint",
        "http.response.trailers",
        "turboapi.pathsend",
    ]


@pytest.mark.parametrize("first", ["http.response.debug", "http.response.start"])
def test_what_an_application_says_aside(first):
    messages = [
        {"type": "http.response.debug", "info": {"template": "a page", "context": {"a": 1}}},
        {"type": "http.response.start", "status": 200, "headers": []},
    ]

    async def app(scope, receive, send):
        for message in sorted(messages, key=lambda each: each["type"] != first):
            await send(message)
        await send({"type": "http.response.body", "body": b"body"})

    def use(client):
        response = client.get("/")
        return response.text, response.template, response.context

    seen = both(once(app, use))
    assert seen == ("body", "a page", {"a": 1})


@pytest.mark.parametrize("path", ["/scope/x", "/api/scope/x", "/apiary/scope/x"])
@pytest.mark.parametrize("own", ["", "/own"])
@pytest.mark.filterwarnings("ignore:The `root_path`")
def test_root_path(path, own):
    app = scope_app(root_path=own)

    def use(client):
        response = client.get(path)
        return response.status_code, response.json()

    both(once(app, use, root_path="/api"))


def test_a_route_that_begins_as_the_root_path():
    app = FastAPI()
    app.get("/api/x")(lambda: "with")
    app.get("/x")(lambda: "without")
    assert both(once(app, lambda c: c.get("/api/x").json(), root_path="/api")) == "without"
    assert both(once(app, lambda c: c.get("/api/x").json())) == "with"


def test_white_space_round_a_header_is_no_part_of_it():
    app = FastAPI()

    @app.get("/")
    async def read(x_value: str = Header()):
        return x_value.strip()

    assert both(once(app, lambda c: c.get("/", headers={"x-value": " a  b\t"}).json())) == "a  b"
    given = NativeTestClient(app).get("/", headers={"x-value": " a  b\t"})
    assert given.json() == "a  b"


def test_https_redirect_heeds_the_base_url():
    app = FastAPI()
    app.add_middleware(HTTPSRedirectMiddleware)
    app.get("/")(lambda: "secure")

    def use(client):
        response = client.get("/", follow_redirects=False)
        return response.status_code, response.headers.get("location"), response.text

    assert both(once(app, use))[:2] == (307, "https://testserver/")
    assert both(once(app, use, base_url="https://testserver"))[2] == '"secure"'


def test_cookies_and_redirects():
    app = FastAPI()

    @app.post("/login")
    async def login(name: str = Form()):
        response = RedirectResponse("/me", 303)
        response.set_cookie("session", name)
        return response

    @app.get("/me")
    async def me(session: str = Cookie()):
        return session

    def use(client):
        response = client.post("/login", data={"name": "ann"})
        history = [(r.status_code, r.headers["location"]) for r in response.history]
        plain = client.post("/login", data={"name": "bob"}, follow_redirects=False)
        return response.json(), history, plain.status_code, dict(client.cookies), str(response.url)

    assert both(once(app, use)) == (
        "ann",
        [(303, "/me")],
        303,
        {"session": "bob"},
        "http://testserver/me",
    )


def test_files():
    app = FastAPI()

    @app.post("/")
    async def take(files: list[UploadFile], note: str = Form()):
        return [note, *[(f.filename, f.content_type, (await f.read()).decode()) for f in files]]

    def use(client):
        files = [("files", ("a.txt", b"one")), ("files", ("b.bin", b"x" * 100_000, "a/b"))]
        return client.post("/", data={"note": "n"}, files=files).json()

    assert both(once(app, use))[:2] == ["n", ["a.txt", "text/plain", "one"]]


def test_a_body_that_is_generated():
    app = FastAPI()

    @app.post("/")
    async def take(request: Request):
        return [request.headers.get("transfer-encoding"), (await request.body()).decode()]

    def use(client):
        return client.post("/", content=(piece for piece in [b"one ", b"two"])).json()

    assert both(once(app, use)) == ["chunked", "one two"]


def test_lifespan_state():
    events = []

    @asynccontextmanager
    async def lifespan(app):
        events.append("up")
        yield {"number": 7, "loop": asyncio.get_running_loop()}
        events.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def read(request: Request):
        assert request.state.loop is asyncio.get_running_loop()
        return request.state.number

    def scenario(client_class):
        events.clear()
        with client_class(app) as client:
            seen = [client.get("/").json(), client.get("/").json(), list(events)]
        return [*seen, list(events)]

    assert both(scenario) == [7, 7, ["up"], ["up", "down"]]


# -- what the test sees


def test_templates(tmp_path):
    pytest.importorskip("jinja2")
    (tmp_path / "page.html").write_text("<p>{{ name }}</p>")
    templates = Jinja2Templates(tmp_path)
    app = FastAPI()

    @app.get("/")
    async def page(request: Request):
        return templates.TemplateResponse(request, "page.html", {"name": "x"})

    def use(client):
        response = client.get("/")
        return response.text, response.template.name, response.context["name"]

    assert both(once(app, use)) == ("<p>x</p>", "page.html", "x")


def failing_app():
    app = FastAPI()

    async def plain(scope, receive, send):
        raise ValueError("raised")

    async def silent(scope, receive, send):
        pass

    async def late(scope, receive, send):
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-a", b"b")]})
        raise ValueError("raised")

    async def short(scope, receive, send):
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-a", b"b")]})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})

    @app.get("/raise")
    async def fail():
        raise ValueError("raised")

    @app.get("/raise-sync")
    def fail_sync():
        raise ValueError("raised")

    @app.get("/stream")
    async def stream():
        async def pieces():
            yield b"part"
            raise ValueError("raised")

        return StreamingResponse(pieces(), 202, headers={"x-a": "b"})

    @app.get("/background")
    async def background(tasks: BackgroundTasks):
        def fail():
            raise ValueError("raised")

        tasks.add_task(fail)
        return "done"

    def cleanup():
        yield
        raise ValueError("raised")

    @app.get("/cleanup", dependencies=[Depends(cleanup)])
    async def with_cleanup():
        return "done"

    for path, each in [("plain", plain), ("silent", silent), ("late", late), ("short", short)]:
        app.mount(f"/{path}", each)
    return app


@pytest.mark.parametrize(
    "path",
    ["raise", "raise-sync", "stream", "background", "cleanup", "plain", "late"],
)
def test_exceptions_are_raised(path):
    result = both(once(failing_app(), lambda c: caught(c.get, f"/{path}")))
    assert result == ("ValueError", None, "raised")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("raise", 500, "Internal Server Error"),
        ("raise-sync", 500, "Internal Server Error"),
        ("stream", 202, "part"),
        ("background", 200, '"done"'),
        ("late", 202, ""),
        ("short", 202, "part"),
    ],
)
def test_exceptions_are_not_raised(path, status, text):
    def use(client):
        response = client.get(f"/{path}")
        return response.status_code, response.headers.get("x-a"), response.text

    result = both(once(failing_app(), use, raise_server_exceptions=False))
    assert result == (status, "b" if status == 202 else None, text)


def test_a_response_that_is_never_completed():
    result = both(
        once(failing_app(), lambda c: (c.get("/short").status_code, c.get("/short").text))
    )
    assert result == (202, "part")


def test_no_response():
    app = failing_app()
    result = both(once(app, lambda c: caught(c.get, "/silent")))
    assert result == ("AssertionError", None, "TestClient did not receive any response.")
    for path in ("/silent", "/plain"):
        use = once(app, lambda c, path=path: c.get(path).status_code, raise_server_exceptions=False)
        assert both(use) == 500


def test_nothing_is_logged(caplog):
    """What the application raises, the test gets."""
    with caplog.at_level(logging.DEBUG, "turboapi"):
        for path in ("raise", "plain", "silent", "late", "short"):
            NativeTestClient(failing_app(), raise_server_exceptions=False).get(f"/{path}")
    assert [r for r in caplog.records if r.name.startswith("turboapi")] == []


def test_background_tasks_are_waited_for():
    done = []
    app = FastAPI()

    async def later():
        await asyncio.sleep(0.05)
        done.append("task")

    @app.get("/")
    async def read(tasks: BackgroundTasks):
        tasks.add_task(later)
        return "answer"

    def use(client):
        done.clear()
        return client.get("/").json(), list(done)

    assert both(once(app, use)) == ("answer", ["task"])


# -- streams


def endless_app(events):
    app = FastAPI()

    @app.get("/stream")
    async def stream():
        async def pieces():
            try:
                number = 0
                while True:
                    yield f"{number}\n"
                    number += 1
                    await asyncio.sleep(0.001)
            finally:
                events.append("ended")

        return StreamingResponse(pieces(), media_type="text/plain")

    async def deaf(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"0\n", "more_body": True})
        try:
            await asyncio.sleep(3600)
        finally:
            events.append("ended")

    app.mount("/deaf", deaf)
    return app


@pytest.mark.parametrize("path", ["/stream", "/deaf"])
@pytest.mark.parametrize("started", [True, False])
def test_a_stream_that_is_left(path, started):
    events = []
    app = endless_app(events)

    def read(client):
        with client.stream("GET", path) as response:
            return next(response.iter_lines())

    def scenario(client_class):
        events.clear()
        client = client_class(app)
        if not started:
            return read(client), list(events)
        with client:
            line = read(client)
        return line, list(events)  # Starlette's may leave the generator to the loop's end

    assert both(scenario) == ("0", ["ended"])


def test_a_stream_that_is_open_when_the_client_ends():
    events = []
    app = endless_app(events)

    def scenario(client_class):
        events.clear()
        with client_class(app) as client:
            response = client.send(client.build_request("GET", "/stream"), stream=True)
            line = next(response.iter_lines())
        return line, list(events)

    assert both(scenario) == ("0", ["ended"])


def test_a_stream_is_read_as_it_comes():
    app = FastAPI()
    go = threading.Event()

    @app.get("/")
    async def stream():
        async def pieces():
            yield "first\n"
            while not go.is_set():
                await asyncio.sleep(0.001)
            yield "second\n"

        return StreamingResponse(pieces())

    def use(client):
        go.clear()
        with client.stream("GET", "/") as response:
            lines = response.iter_lines()
            first = next(lines)
            go.set()
            return first, list(lines)

    assert both(once(app, use)) == ("first", ["second"])


# -- several at once


def test_a_request_while_another_one_goes_on():
    app = endless_app([])
    app.get("/")(lambda: "other")

    @app.websocket("/ws")
    async def echo(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    def scenario(client_class):
        with client_class(app) as client:
            with client.websocket_connect("/ws") as session:
                with client.stream("GET", "/stream") as response:
                    first = next(response.iter_lines())
                    other = client.get("/").json()
                session.send_text("x")
                return first, other, session.receive_text()

    assert both(scenario) == ("0", "other", "x")


@pytest.mark.parametrize("started", [True, False])
def test_threads_that_share_a_client(started):
    app = FastAPI()

    @app.get("/{number}")
    async def read(number: int):
        await asyncio.sleep(0.001)
        if number % 5 == 0:
            raise ValueError(str(number))
        return number

    seen = {}

    def work(client, number):
        try:
            seen[number] = client.get(f"/{number}").json()
        except ValueError as error:
            seen[number] = str(error)

    def run(client):
        threads = [threading.Thread(target=work, args=(client, n)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    client = NativeTestClient(app)
    if started:
        with client:
            run(client)
    else:
        run(client)
    assert seen == {n: str(n) if n % 5 == 0 else n for n in range(20)}


def test_timeouts_of_the_client_do_not_count():
    app = FastAPI()

    @app.get("/")
    async def read():
        await asyncio.sleep(0.2)
        return "late"

    for client_class in DOORS.values():
        client = client_class(app)
        client.timeout = 0.01
        assert client.get("/").json() == "late"


def test_a_client_that_is_started_twice():
    app = FastAPI()
    app.get("/")(lambda: "x")

    def scenario(client_class):
        client = client_class(app)
        seen = []
        for _ in range(2):
            with client:
                seen.append(client.get("/").json())
        return [*seen, client.get("/").json()]

    assert both(scenario) == ["x", "x", "x"]


def test_routes_that_come_late():
    app = FastAPI()

    def scenario(client_class):
        with client_class(app) as client:
            path = f"/{client_class.__name__}"
            before = client.get(path).status_code
            app.get(path)(lambda: "there")
            return before, client.get(path).json()

    assert both(scenario) == (404, "there")


def test_any_asgi_application():
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await PlainTextResponse("plain")(scope, receive, send)

    class Old:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            await Response("old")(self.scope, receive, send)

    assert both(once(app, lambda c: c.get("/").text)) == "plain"
    assert both(once(Old, lambda c: c.get("/").text)) == "old"


def test_a_loop_of_ones_own():
    uvloop = pytest.importorskip("uvloop")
    app = FastAPI()

    @app.get("/")
    async def read():
        return type(asyncio.get_running_loop()).__module__

    options = {"backend_options": {"loop_factory": uvloop.new_event_loop}}
    assert both(once(app, lambda c: c.get("/").json(), **options)) == "uvloop"


def test_trio_goes_through_asgi():
    app = FastAPI()

    @app.get("/")
    async def read(request: Request):
        return sorted(request.scope["extensions"])

    extensions = NativeTestClient(app, backend="trio").get("/").json()
    assert "http.response.trailers" in extensions


def test_a_request_takes_no_time_to_end():
    app = FastAPI()
    app.get("/")(lambda: "x")
    with NativeTestClient(app) as client:
        client.get("/")
        begun = time.perf_counter()
        for _ in range(100):
            client.get("/")
        # Were there a wait of, say, 100 ms in each, it would be 10 s: on a loaded machine, too.
        assert time.perf_counter() - begun < 10
