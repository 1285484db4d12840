"""ASGI middleware of every kind of callable, calling on in every way: the same through both doors."""

import functools

import pytest
from doors_kit import both
from starlette.middleware.cors import CORSMiddleware

from turboapi import FastAPI


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
