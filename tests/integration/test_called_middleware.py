"""ASGI middleware of every kind of callable, calling on in every way: the same through both doors."""

import functools

import pytest
from doors_kit import both
from server_kit import running
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware

from turboapi import BackgroundTasks, FastAPI, HTTPException, Request, Response


def tagging(send, tag):
    async def tagged(message):
        if message["type"] == "http.response.start":
            message["headers"].append((b"x-tag", tag))
        await send(message)

    return tagged


class Plain:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, tagging(send, b"plain"))


class Inherits(Plain):
    __slots__ = ("more",)


class Keywords(Plain):
    async def __call__(self, scope, receive, send):
        await self.app(scope=scope, receive=receive, send=tagging(send, b"keywords"))


class Mixed(Plain):
    async def __call__(self, *args):
        scope, receive, send = args
        await self.app(scope, send=tagging(send, b"mixed"), receive=receive)


class ByName(Plain):
    async def __call__(self, scope, receive, send):
        await self.app.__call__(*(scope, receive), tagging(send, b"by name"))


class NotAsync(Plain):
    def __call__(self, scope, receive, send):
        return self.app(scope, receive, tagging(send, b"not async"))


class Shadowed(Plain):
    def __init__(self, app):
        super().__init__(app)
        self.__call__ = None  # a call looks at the class only


class Static:
    def __init__(self, app):
        Static.app = staticmethod(app)

    @staticmethod
    async def __call__(scope, receive, send):
        await Static.app(scope, receive, tagging(send, b"static"))


class OfClass:
    def __init__(self, app):
        OfClass.app = staticmethod(app)

    @classmethod
    async def __call__(cls, scope, receive, send):
        await cls.app(scope, receive, tagging(send, b"of class"))


class Partial:
    def __init__(self, app):
        self.app = app

    __call__ = functools.partialmethod(
        lambda self, tag, scope, receive, send: self.app(scope, receive, tagging(send, tag)),
        b"partial",
    )


class Meta(type):
    async def __call__(cls, scope, receive, send):
        await cls.app(scope, receive, tagging(send, b"meta"))


def of_metaclass(app):
    return Meta("Made", (), {"app": staticmethod(app)})


def function(app):
    async def call(scope, receive, send):
        await app(scope, receive, tagging(send, b"function"))

    return call


def partial(app):
    async def call(given, scope, receive, send):
        await given(scope, receive, tagging(send, b"partial"))

    return functools.partial(call, app)


class Passing(Plain):
    async def __call__(self, scope, receive, send):
        scope["passed"] = scope.get("passed", 0) + 1
        await self.app(scope, receive, send)


class Failing(Plain):
    async def __call__(self, scope, receive, send):
        if scope.get("path") == "/wrong":
            await self.app(scope, receive)  # send is missing
        await self.app(scope, receive, send)


KINDS = [
    Plain,
    Inherits,
    Keywords,
    Mixed,
    ByName,
    NotAsync,
    Shadowed,
    Static,
    OfClass,
    Partial,
    of_metaclass,
    function,
    partial,
    Passing,
    Failing,
]


def answers(kinds, change=None):
    app = FastAPI()
    for kind in kinds:
        app.add_middleware(kind)

    @app.get("/{name}")
    async def index(name: str):
        return {"name": name}

    @app.get("/fails/{name}")
    async def fails(name: str):
        raise RuntimeError(name)

    def scenario(client_class):
        found = []
        with client_class(app, raise_server_exceptions=False) as client:
            for turn in range(3):
                if change is not None:
                    change(turn)
                for path in ("/a", "/b/c", "/fails/x", "/wrong"):
                    response = client.get(path, headers={"origin": "https://a.example"})
                    given = [each for each in response.headers.raw if each[0].startswith(b"x-")]
                    found.append((path, response.status_code, given, response.text))
        return found

    return both(scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind):
    found = answers([kind])
    assert found[0][1] == 200
    assert (found[0][2] == []) == (kind in (Passing, Failing))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("filtered", [False, True])
def test_each_kind_round_others(kind, filtered):
    inside = [functools.partial(CORSMiddleware, allow_origins=["*"])] if filtered else []
    found = answers([Plain, kind, *inside, Passing, Mixed])
    assert [tag for _, tag in found[0][2]][-1] == b"mixed"


def test_a_class_may_get_another_call():
    class Changing(Plain):
        pass

    async def call(self, scope, receive, send):
        await self.app(scope, receive, tagging(send, b"changed"))

    def change(turn):
        Changing.__call__ = call if turn == 2 else Plain.__call__

    found = answers([Changing], change)
    assert [tag for _, tag in found[-4][2]] == [b"changed"]


class Wrapping(Plain):
    """What `Passing` does, for an application inside that has to send messages."""

    async def __call__(self, scope, receive, send):
        async def wrapped(message):
            await send(message)

        scope["passed"] = scope.get("passed", 0) + 1
        await self.app(scope, receive, wrapped)


class Twice(Plain):
    """Calls the application a second time, or after a response of its own."""

    async def __call__(self, scope, receive, send):
        path = scope.get("path", "")
        if path == "/began":
            await send({"type": "http.response.start", "status": 202, "headers": []})
        await self.app(scope, receive, send)
        if path == "/twice":
            await self.app(scope, receive, send)
        if path == "/more":
            await send({"type": "http.response.body", "body": b"more"})


class Late(Plain):
    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)
        if scope.get("path") == "/late":
            raise RuntimeError("late")


def routes(app, seen):
    @app.get("/given")
    async def given():
        return Response(b"text", 203, {"x-a": "1"}, "text/plain")

    @app.get("/status/{code}")
    async def status(code: int):
        return Response(status_code=code)

    @app.get("/injected")
    async def injected(response: Response):
        response.set_cookie("a", "b")
        response.headers["x-b"] = "2"
        return [1, 2]

    @app.get("/unwell")
    async def unwell():
        return Response(b"x", headers={"x-a": "1\r\nx-b: 2"})

    @app.get("/unsized")
    async def unsized():
        response = Response(b"abc")
        response.headers["content-length"] = "5"
        return response

    @app.get("/raises")
    async def raises():
        raise HTTPException(409, "no", {"x-c": "3"})

    @app.get("/breaks")
    async def breaks():
        raise ValueError("broken")

    @app.get("/background")
    async def background(tasks: BackgroundTasks):
        tasks.add_task(seen.append, "background")
        return "later"

    @app.api_route("/{name}", methods=["GET", "HEAD", "POST"])
    async def any_name(request: Request, name: str):
        return {"name": name, "length": len(await request.body()), "n": request.scope["passed"]}


REQUESTS = [
    *(
        ("GET", f"/{name}")
        for name in ["given", "injected", "unwell", "raises", "breaks", "background"]
    ),
    *(("GET", f"/status/{code}") for code in (200, 204, 205, 304)),
    *((method, "/plain") for method in ("GET", "HEAD", "POST", "PUT")),
    *(("GET", path) for path in ("/began", "/twice", "/more", "/late", "/no/such", "/unsized")),
]


def wire_answers(kind, round_it, caplog):
    app, seen, found = FastAPI(), [], []
    app.add_middleware(kind)
    for each in round_it:
        app.add_middleware(each)
    routes(app, seen)
    with running(app, interface="turboapi") as server:
        for method, path in REQUESTS:
            caplog.clear()
            raw = server.exchange(
                f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"
                "connection: close\r\n\r\nab".encode()
            )
            head, _, body = raw.partition(b"\r\n\r\n")
            lines = sorted(each for each in head.lower().split(b"\r\n") if b"date:" not in each)
            errors = [
                (each.getMessage(), repr(each.exc_info and each.exc_info[1]))
                for each in caplog.records
            ]
            found.append((method, path, lines, body, errors))
    return found, seen


@pytest.mark.parametrize("round_it", [[], [Twice], [Late], [Passing, Twice]])
def test_what_passes_send_on_is_as_what_wraps_it(round_it, caplog):
    caplog.set_level("WARNING")
    passed = wire_answers(Passing, round_it, caplog)
    assert passed == wire_answers(Wrapping, round_it, caplog)
    assert passed[1] == ["background"]


class Dispatching(BaseHTTPMiddleware):
    """Has whole responses, some of which it makes unusual."""

    async def dispatch(self, request, call_next):
        request.scope["passed"] = 1
        path = request.url.path
        if path == "/began":
            return Response(b"own", headers={"x-own": "1"})
        response = await call_next(request)
        response.headers["x-dispatched"] = "1"
        if path in ("/plain", "/late"):
            response.headers["content-length"] = "1000" if path == "/plain" else "1"
        elif path == "/injected":
            del response.headers["content-length"]
        elif path == "/twice":
            response.raw_headers.append((b"content-length", b"7"))
        elif path == "/more":
            response.raw_headers.append((b"x-more", b"a\nb"))
        elif path == "/given":
            response.status_code = 204
        elif path == "/background":
            response.raw_headers.append((b"transfer-encoding", b"chunked"))
        return response


class Seeing(Plain):
    """Its send() sees the messages, so that those are made."""

    async def __call__(self, scope, receive, send):
        async def seen(message):
            await send(message)

        await self.app(scope, receive, seen)


def test_whole_responses_are_sent_as_their_messages_would_be(caplog):
    caplog.set_level("WARNING")
    for dispatching in ([Dispatching], [Dispatching, Dispatching]):
        kind, *more = dispatching
        at_once = wire_answers(kind, more, caplog)
        assert at_once == wire_answers(kind, [*more, Seeing], caplog)
        assert at_once[1] == ["background"]
