"""`dependency_overrides` are looked up when a dependency's turn comes: both doors, and FastAPI.

A dependency that installs or removes an override does so for what comes after it in the same
request. Each case is an application that notes what ran; FastAPI itself is right by definition.
"""

import importlib
import json

import pytest
from doors_kit import DOORS, both
from pydantic import BaseModel
from server_kit import both_protocols, running, wait_for

import turboapi


class Item(BaseModel):
    a: int


class World:
    def __init__(self, module):
        self.log = []
        self.app = module.FastAPI()
        self.Depends = module.Depends
        log, overrides, Depends = self.log, self.app.dependency_overrides, module.Depends

        def plain():
            log.append("plain")
            return "plain"

        def other():
            log.append("other")
            return "other"

        async def other_async():
            log.append("other async")
            return "other async"

        def other_yield():
            log.append("other enters")
            yield "other yields"
            log.append("other leaves")

        async def other_asyncgen():
            log.append("other enters")
            yield "other yields"
            log.append("other leaves")

        def deep():
            log.append("deep")
            return "deep"

        def other_nested(q: int = 1, below: str = Depends(deep)):
            log.append("other nested")
            return f"{q} {below}"

        def deep_other():
            log.append("deep other")
            return "deep other"

        def other_body(item: Item):
            return item.a

        self.plain, self.deep, self.deep_other = plain, deep, deep_other
        self.others = {
            each.__name__: each
            for each in (other, other_async, other_yield, other_asyncgen, other_nested, other_body)
        }

        def install(by: str):
            log.append("installs")
            overrides[plain] = self.others[by]
            overrides[deep] = deep_other

        async def install_async(by: str):
            install(by)

        def install_yield(by: str):
            install(by)
            yield
            log.append("installer leaves")

        async def install_asyncgen(by: str):
            install(by)
            yield
            log.append("installer leaves")

        def remove():
            log.append("removes")
            overrides.clear()

        self.installers = [install, install_async, install_yield, install_asyncgen]
        self.remove = remove


def siblings(w, route, installer):
    @route("/")
    def endpoint(i=w.Depends(installer), d=w.Depends(w.plain), e=w.Depends(w.deep)):
        return [d, e]


def before_too(w, route, installer):
    """What came before is as it was, and shares its value with what has the same key."""

    @route("/")
    async def endpoint(
        a=w.Depends(w.deep), i=w.Depends(installer), b=w.Depends(w.deep),
        c=w.Depends(w.deep, use_cache=False), d=w.Depends(w.plain),
    ):  # fmt: skip
        return [a, b, c, d]


def nested(w, route, installer):
    """Installed from deep inside: those above have begun already."""

    def middle(i=w.Depends(installer), d=w.Depends(w.plain)):
        w.log.append("middle")
        return ["middle", d]

    def above(q: int = 3, m=w.Depends(middle), d=w.Depends(w.plain, use_cache=False)):
        w.log.append("above")
        return [q, m, d]

    w.others["above"] = lambda: "never"
    w.app.dependency_overrides[above] = above

    @route("/")
    async def endpoint(a=w.Depends(above), d=w.Depends(w.deep)):
        return [a, d]


def removed(w, route, installer):
    def above(i=w.Depends(installer), d=w.Depends(w.plain)):
        return d

    @route("/")
    def endpoint(
        a=w.Depends(above), r=w.Depends(w.remove), d=w.Depends(w.plain, use_cache=False),
        i=w.Depends(installer, use_cache=False), e=w.Depends(w.plain, use_cache=False),
    ):  # fmt: skip
        return [a, d, e]


def with_errors(w, route, installer):
    def wrong(missing: int):
        return missing

    def above(x=w.Depends(wrong), i=w.Depends(installer), d=w.Depends(w.plain)):
        return d

    @route("/")
    def endpoint(a=w.Depends(above), d=w.Depends(w.deep)):
        return "never"


def with_body(w, route, installer):
    @route("/")
    def endpoint(item: Item, i=w.Depends(installer), d=w.Depends(w.plain)):
        return [item.a, d]


def body_of_another(w, route, installer):
    def first(item: Item):
        return item.a

    @route("/")
    def endpoint(i=w.Depends(installer), f=w.Depends(first), d=w.Depends(w.plain)):
        return [f, d]


CASES = [siblings, before_too, nested, removed, with_errors, with_body, body_of_another]
OTHERS = ["other", "other_async", "other_yield", "other_asyncgen", "other_nested", "other_body"]


def outcome(module, case, installer, by, client):
    """The answers to two requests, and what ran; `client` gives a function that asks."""
    world = World(module)
    case(world, world.app.post, world.installers[installer])
    before = dict(world.app.dependency_overrides)
    seen = []
    with client(world.app) as ask:
        for _ in range(2):
            seen.append(ask(f"/?by={by}"))
            seen.append(list(world.log))
            world.log.clear()
            world.app.dependency_overrides.clear()
            world.app.dependency_overrides.update(before)
    return seen


class Asking:
    """A test client of a door, or (`native`) a server for an unchanged application."""

    def __init__(self, app, door):
        self.context = door(app)

    def __enter__(self):
        client = self.context.__enter__()

        def ask(path):
            response = client.post(path, json={"a": 4})
            return response.status_code, response.json()

        return ask

    def __exit__(self, *exc):
        self.context.__exit__(*exc)


@pytest.mark.parametrize("by", OTHERS)
@pytest.mark.parametrize("installer", range(4))
@pytest.mark.parametrize("case", CASES)
def test_doors_agree(case, installer, by):
    both(lambda door: outcome(turboapi, case, installer, by, lambda app: Asking(app, door)))


@pytest.mark.parametrize("by", OTHERS)
@pytest.mark.parametrize("installer", range(4))
@pytest.mark.parametrize("case", CASES)
def test_as_fastapi(case, installer, by):
    pytest.importorskip("fastapi")
    fastapi = importlib.import_module("fastapi")
    asgi = DOORS["asgi"]
    expected = outcome(fastapi, case, installer, by, lambda app: Asking(app, asgi))
    for door in DOORS.values():
        assert outcome(turboapi, case, installer, by, lambda app: Asking(app, door)) == expected


@both_protocols
def test_unchanged_applications():
    """Routes that were compiled from an application of FastAPI's own."""
    pytest.importorskip("fastapi")
    fastapi = importlib.import_module("fastapi")
    for case in (siblings, before_too, nested, removed):
        for by in OTHERS[:5]:
            asgi = DOORS["asgi"]
            expected = outcome(fastapi, case, 1, by, lambda app: Asking(app, asgi))[:2]
            world = World(fastapi)
            case(world, world.app.post, world.installers[1])
            with running(world.app, interface="turboapi") as server:
                status, _, body = server.request("POST", f"/?by={by}", body=b'{"a":4}')
                assert (status, json.loads(body)) == expected[0]
                wait_for(lambda: world.log == expected[1])


def test_at_once():
    """The plain case, spelled out."""

    def scenario(door):
        return outcome(turboapi, siblings, 0, "other", lambda app: Asking(app, door))

    answer = (200, ["other", "deep other"])
    assert both(scenario) == [answer, ["installs", "other", "deep other"]] * 2
