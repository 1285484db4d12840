"""What names an application, and what is said when it is not there."""

import asyncio
import itertools
import sys

import pytest

from turboapi._serving import importer
from turboapi._serving.importer import AppError, locate, strange_keys
from turboapi.config import Config, ConfigError

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of a new name into a folder and return the name."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)

    def write(text: str) -> str:
        name = f"unit_app_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for name in set(sys.modules) - known:
        if name.startswith("unit_app"):
            del sys.modules[name]


def load(name, tmp_path, **more):
    return importer.load(Config(app=name, app_dir=str(tmp_path), **more))


APP = "async def app(scope, receive, send): ...\n"


def test_names_of_all_kinds(tmp_path):
    (tmp_path / "pkg" / "sub").mkdir(parents=True)
    for folder in ("pkg", "pkg/sub"):
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "pkg" / "sub" / "mod.py").touch()
    (tmp_path / "single.py").touch()
    base = str(tmp_path)
    for name, expected in {
        "pkg.sub.mod:app": "pkg.sub.mod:app",
        "pkg.sub.mod:a.b": "pkg.sub.mod:a.b",
        "pkg.sub.mod": "pkg.sub.mod",
        "pkg/sub/mod.py": "pkg.sub.mod",
        "pkg/sub/mod.py:app": "pkg.sub.mod:app",
        "pkg/sub/__init__.py": "pkg.sub",
        "pkg": "pkg",
        "single.py": "single",
        "single": "single",
        str(tmp_path / "single.py"): "single",
    }.items():
        found = locate(name, base)
        assert (str(found), found.folder) == (expected, tmp_path.resolve()), name


@pytest.mark.parametrize("name", ["", ":", ":app", "main:"])
def test_names_that_say_nothing(name, tmp_path):
    with pytest.raises(AppError, match="does not name an application"):
        locate(name, str(tmp_path))


def test_more_than_one_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.py").write_text("")
    for name in ("ok.py:app:x", "ok:app:x", "ok.py:app:", ":ok:app"):
        with pytest.raises(AppError, match="more than one colon|does not name"):
            locate(name)
    with pytest.raises(AppError, match=r"'ok.py:app:x' has more than one colon"):
        locate("ok.py:app:x")


def test_usual_files_in_their_order(tmp_path):
    base = str(tmp_path)
    with pytest.raises(AppError, match=r"none of the usual files \(main\.py, app\.py"):
        locate(None, base)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").touch()
    assert str(locate(None, base)) == "main"
    (tmp_path / "app" / "__init__.py").touch()
    assert str(locate(None, base)) == "app.main"
    (tmp_path / "api.py").touch()
    assert str(locate(None, base)) == "api"
    (tmp_path / "pyproject.toml").write_text('[tool.fastapi]\nentrypoint = "x.y:z"\n')
    assert str(locate(None, base)) == "x.y:z"


@pytest.mark.parametrize(
    "text",
    ["[tool.turboapi]\nentrypoint = 1", "[tool.fastapi]\nentrypoint='m'", "[", "tool.turboapi = 1"],
)
def test_bad_pyproject(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(AppError, match="pyproject"):
        locate(None, str(tmp_path))


def test_other_keys_of_pyproject_are_told(tmp_path):
    path = tmp_path / "pyproject.toml"
    assert list(strange_keys(str(tmp_path))) == []
    path.write_text(
        "[tool.turboapi]\nentrypoint = 'a:b'\nport = 1\nlimit-body-bytes = '1M'\nentrypont = 'x'\n"
        "app = 'x'\nother = 1\n[tool.fastapi]\nport = 1"
    )
    assert [line.partition(": ")[2] for line in strange_keys(str(tmp_path))] == [
        "app of [tool.turboapi] is not read: did you mean entrypoint?",
        "entrypont of [tool.turboapi] is not read: did you mean entrypoint?",
        "limit-body-bytes of [tool.turboapi] is not read: only entrypoint is; set "
        "TURBOAPI_LIMIT_BODY_BYTES, or give --limit-body-bytes",
        "other of [tool.turboapi] is not read: only entrypoint is",
        "port of [tool.turboapi] is not read: only entrypoint is; set TURBOAPI_PORT, or give "
        "--port",
    ]
    path.write_text("[")  # an error where an application is looked for
    assert list(strange_keys(str(tmp_path))) == []


def test_missing_files(tmp_path):
    (tmp_path / "main.py").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(AppError, match=r"There is no file .*mian\.py\. Did you mean 'main\.py'\?"):
        locate("mian.py", str(tmp_path))
    with pytest.raises(AppError, match=r"without __init__\.py"):
        locate("folder", str(tmp_path))
    with pytest.raises(ConfigError, match="app_dir: there is no folder"):
        locate("main", str(tmp_path / "nowhere"))


def test_loads(tmp_path, module):
    name = module(APP + "class Holder: inner = app\n")
    app = load(f"{name}:app", tmp_path)
    assert app.__name__ == "app"
    assert load(f"{name}:Holder.inner", tmp_path) is app
    assert load(name, tmp_path) is app


def test_module_missing(tmp_path, module):
    name = module(APP)
    with pytest.raises(
        AppError, match=f"There is no module '{name}x' in .* Did you mean .*'{name}'"
    ):
        load(f"{name}x:app", tmp_path)
    with pytest.raises(AppError, match=f"There is no module '{name}.sub' in package '{name}'"):
        load(f"{name}.sub:app", tmp_path)
    with pytest.raises(AppError, match="--app-dir"):
        load("zzzzzzzzz:app", tmp_path)


def test_an_attribute_behind_a_dot(tmp_path, module):
    name = module(APP)
    with pytest.raises(AppError, match=f"no module '{name}.app'. Did you mean '{name}:app'"):
        load(f"{name}.app", tmp_path)
    with pytest.raises(AppError, match=f"no module '{name}.nope' in package '{name}'."):
        load(f"{name}.nope", tmp_path)


def test_module_that_it_imports_missing(tmp_path, module):
    name = module("import surely_not_installed\n")
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        load(f"{name}:app", tmp_path)


def test_attribute_missing(tmp_path, module):
    name = module("async def aplication(s, r, n): ...\n")
    with pytest.raises(
        AppError,
        match=rf"no attribute 'application' in module '{name}'\. Did you mean 'aplication'\?",
    ):
        load(f"{name}:application", tmp_path)
    with pytest.raises(AppError, match="is a call"):
        load(f"{name}:create()", tmp_path)


def test_attribute_missing_names_applications(tmp_path, module):
    name = module("from starlette.applications import Starlette\nshop = Starlette()\n")
    with pytest.raises(AppError, match="Did you mean 'shop'"):
        load(f"{name}:app", tmp_path)
    assert load(name, tmp_path) is sys.modules[name].shop


def test_no_application_in_module(tmp_path, module):
    name = module("def create_app(): return lambda s, r, n: None\n")
    with pytest.raises(
        AppError, match=r"looked for app, api, application.*--factory for create_app"
    ):
        load(name, tmp_path)
    assert callable(load(name, tmp_path, factory=True))


def test_not_callable(tmp_path, module):
    name = module("app = 5\n")
    with pytest.raises(AppError, match="is no application but an int"):
        load(f"{name}:app", tmp_path)


def test_bad_factories(tmp_path, module):
    name = module("def f(x): ...\nasync def g(): ...\nh = 3\ndef k(): raise KeyError('mine')\n")
    for attribute, message in {
        "f": "can't be called without arguments",
        "g": "is an async function",
        "h": "is no function but an int",
    }.items():
        with pytest.raises(AppError, match=message):
            load(f"{name}:{attribute}", tmp_path, factory=True)
    with pytest.raises(KeyError, match="mine"):
        load(f"{name}:k", tmp_path, factory=True)


def test_interfaces():
    from starlette.applications import Starlette

    from turboapi import FastAPI

    async def asgi(scope, receive, send): ...

    def asgi_by_hand(scope, receive, send): ...

    def wsgi(environ, start_response): ...

    class Wsgi:
        def __call__(self, environ, start_response): ...

    class Asgi:
        async def __call__(self, scope, receive, send): ...

    for app, expected in [
        (FastAPI(), "turboapi"),
        (Starlette(), "asgi"),
        (asgi, "asgi"),
        (asgi_by_hand, "asgi"),
        (Asgi(), "asgi"),
        (wsgi, "wsgi"),
        (Wsgi(), "wsgi"),
    ]:
        assert importer.detect_interface(app) == expected


# Each makes `thing`; what it is taken for.
ASYNC = "async def app(scope, receive, send): ...\n"
WSGI = "def wsgi(environ, start_response): ...\n"
APPLICATIONS = {
    "async function": "thing = app",
    "function that gives an awaitable": "def thing(scope, receive, send): return app(1, 2, 3)",
    "wrapper": "def thing(*args, **kwargs): return app(*args)",
    "async wrapper": "async def thing(*args): await app(*args)",
    "partial": "import functools\nasync def f(o, scope, receive, send): ...\n"
    "thing = functools.partial(f, 1)",
    "object": "class C:\n async def __call__(self, scope, receive, send): ...\nthing = C()",
    "method": "class C:\n async def run(self, scope, receive, send): ...\nthing = C().run",
    "object with optional arguments": "class C:\n def __call__(self, scope, receive, send, x=1):"
    " ...\nthing = C()",
    "class of ASGI": "class thing:\n def __init__(self, scope, receive, send): ...\n"
    " def __await__(self): ...",
    "WSGI function": "thing = wsgi",
    "WSGI object": "class C:\n def __call__(self, environ, start_response): ...\nthing = C()",
    "WSGI partial": "import functools\ndef f(o, environ, start_response): ...\n"
    "thing = functools.partial(f, 1)",
    "WSGI class": "class thing:\n def __init__(self, environ, start_response): ...\n"
    " def __iter__(self): ...",
    "without a signature": "class C:\n __signature__ = 5\n"
    " def __call__(self, *args): ...\nthing = C()",
}
WSGI_ONES = {name for name in APPLICATIONS if name.startswith("WSGI")}

FACTORIES = {
    "function": "def thing(): return app",
    "function with defaults": "def thing(debug=False, a=1, b=2): return app",
    "function with keywords": "def thing(*, debug=False, **more): return app",
    "partial": "import functools\ndef f(x): return app\nthing = functools.partial(f, 1)",
    "lambda": "thing = lambda: app",
    "object": "class C:\n def __call__(self): return app\nthing = C()",
    "class": "class thing:\n async def __call__(self, scope, receive, send): ...",
    "class method": "class C:\n @classmethod\n def make(cls): return app\nthing = C.make",
    "of WSGI": "def thing(): return wsgi",
}

REFUSED = {
    "function of five": ("def thing(a, b, c, d, e): ...", r"a function of \(a, b, c, d, e\)"),
    "function of one": ("def thing(item): ...", r"a function of \(item\)"),
    "needed keyword": ("async def thing(scope, receive, *, send): ...", "an async function of"),
    "async function of two": ("async def thing(receive, send): ...", "an async function of"),
    "async generator": ("async def thing(scope, receive, send): yield", "an async generator fun"),
    "model": ("import pydantic\nclass thing(pydantic.BaseModel): a: int", r"a class of \(a\)"),
    "model with defaults": (
        "import pydantic\nclass thing(pydantic.BaseModel): a: int = 1",
        r"What .*:thing returned is no application but a thing",
    ),
    "class of three": (
        "class thing:\n def __init__(self, a, b, c): ...",
        r"a class of \(a, b, c\)",
    ),
    "async factory": ("async def thing(): ...", "an async function without arguments.*--factory"),
    "coroutine": ("thing = app(1, 2, 3)", "a coroutine"),
    "number": ("thing = 5", "an int"),
    "factory of a number": ("def thing(): return 5", "What .* returned is no application but an "),
    "factory of nothing": ("def thing(): pass", "What .* returned .* a NoneType"),
    "factory of a factory": ("def thing(): return lambda: app", "called without arguments"),
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
class TestWhatIsAnApplication:
    @pytest.mark.parametrize("kind", APPLICATIONS)
    def test_applications(self, kind, tmp_path, module, caplog):
        name = module(ASYNC + WSGI + APPLICATIONS[kind])
        found = load(f"{name}:thing", tmp_path)
        assert found == sys.modules[name].thing
        assert not caplog.records
        interface = "wsgi" if kind in WSGI_ONES else "asgi"
        assert importer.detect_interface(found) == interface
        assert load(f"{name}:thing", tmp_path, interface=interface) == found

    @pytest.mark.parametrize("kind", FACTORIES)
    def test_factories(self, kind, tmp_path, module, caplog):
        name = module(ASYNC + WSGI + FACTORIES[kind])
        with caplog.at_level("WARNING", "turboapi.server"):
            made = load(f"{name}:thing", tmp_path)
        of = sys.modules[name]
        if kind == "class":
            assert type(made) is of.thing
        else:
            assert made is (of.wsgi if "WSGI" in kind else of.app)
        (record,) = caplog.records
        assert f"{name}:thing can't be an application" in record.getMessage()
        assert "--factory" in record.getMessage()
        caplog.clear()
        again = load(f"{name}:thing", tmp_path, factory=True)
        assert type(again) is type(made)
        assert not caplog.records

    @pytest.mark.parametrize("kind", REFUSED)
    def test_refused(self, kind, tmp_path, module):
        source, message = REFUSED[kind]
        name = module(ASYNC + WSGI + source)
        with pytest.raises(AppError, match=message) as caught:
            load(f"{name}:thing", tmp_path)
        if kind == "coroutine":
            sys.modules[name].thing.close()  # else a later test is told that nobody awaited it
        if "async factory" not in kind:
            assert "(scope, receive, send), or for WSGI" in str(caught.value)

    def test_not_of_the_interface_that_was_asked_for(self, tmp_path, module):
        name = module(ASYNC + WSGI)
        with pytest.raises(AppError, match=r"with \(environ, start_response\)\."):
            load(f"{name}:app", tmp_path, interface="wsgi")
        with pytest.raises(AppError, match=r"with \(scope, receive, send\)\."):
            load(f"{name}:wsgi", tmp_path, interface="asgi")

    @pytest.mark.parametrize(
        "source",
        [
            "class thing:\n def __init__(self, scope): self.scope = scope\n"
            " async def __call__(self, receive, send): await send(self.scope)",
            "def thing(scope):\n async def run(receive, send): await send(scope)\n return run",
        ],
        ids=["class", "function"],
    )
    def test_asgi_2(self, source, tmp_path, module):
        app = load(f"{module(source)}:thing", tmp_path)
        assert importer.detect_interface(app) == "asgi"
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(app({"type": "http"}, None, send))
        assert sent == [{"type": "http"}]

    def test_objects_that_run_is_given(self):
        from turboapi._serving.run import run

        with pytest.raises(AppError, match="^TestWhat.*<lambda> is no application but a function"):
            run(lambda a: a, port=0)
