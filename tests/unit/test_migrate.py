"""`python -m turboapi.migrate` and `turboapi.as_fastapi()`."""

import subprocess
import sys
import textwrap

import pytest

from turboapi import migrate


def run(code, *path):
    """Run code in a new interpreter and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- the alias -------------------------------------------------------------------------------------


def test_alias_gives_the_same_modules():
    out = run("""
        import sys
        import turboapi, turboapi.routing
        turboapi.as_fastapi()
        turboapi.as_fastapi()
        import fastapi
        import fastapi.security.oauth2
        from fastapi.routing import APIRoute
        from fastapi.responses import JSONResponse
        assert fastapi is turboapi and APIRoute is turboapi.routing.APIRoute
        assert sys.modules["fastapi.routing"] is sys.modules["turboapi.routing"]
        assert fastapi.security.oauth2 is sys.modules["turboapi.security.oauth2"]
        for name, module in sys.modules.items():
            if name.startswith("fastapi."):
                own = sys.modules["turboapi" + name.removeprefix("fastapi")]
                assert module is own and own.__spec__.name.startswith("turboapi"), name
        app = fastapi.FastAPI()
        assert type(app).__module__ == "turboapi.applications"
        print("same")
    """)
    assert out == "same\n"


def test_alias_does_not_fall_through():
    out = run("""
        import turboapi
        turboapi.as_fastapi()
        try:
            import fastapi.no_such_module
        except ModuleNotFoundError as error:
            print(error.name, "turboapi.no_such_module" in str(error))
    """)
    assert out == "fastapi.no_such_module True\n"


def test_alias_comes_too_late():
    out = run("""
        import sys, types
        sys.modules["fastapi"] = types.ModuleType("fastapi")
        import turboapi
        try:
            turboapi.as_fastapi()
        except RuntimeError as error:
            print(error)
        assert sys.modules["fastapi"] is not turboapi
    """)
    assert "already" in out


# -- the rewriting ---------------------------------------------------------------------------------


def rewritten(source):
    return migrate.rewrite(source)[0]


def notes(source):
    return [note.text for note in migrate.rewrite(source)[1]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from fastapi import FastAPI\n", "from turboapi import FastAPI\n"),
        ("from fastapi.routing import (\n  APIRoute,  # why\n)\n",
         "from turboapi.routing import (\n  APIRoute,  # why\n)\n"),
        ("import fastapi\n", "import turboapi as fastapi\n"),
        ("import fastapi as f, os\n", "import turboapi as f, os\n"),
        ("import os, fastapi.routing, sys\n",
         "import os, turboapi.routing, turboapi as fastapi, sys\n"),
        ("import fastapi.routing as r\n", "import turboapi.routing as r\n"),
        ("from  fastapi  import Query\n", "from  turboapi  import Query\n"),
        ("from \\\n  fastapi import Query\n", "from \\\n  turboapi import Query\n"),
        ("x = 'é'; from fastapi import Query; y = 1\n",
         "x = 'é'; from turboapi import Query; y = 1\n"),
        ("def f():\n\tfrom fastapi import Query\r\n\treturn Query\r\n",
         "def f():\n\tfrom turboapi import Query\r\n\treturn Query\r\n"),
        ("from fastapi_users import x\n", "from fastapi_users import x\n"),
        ("from .fastapi import x\n", "from .fastapi import x\n"),
        ("import fastapi_users\n", "import fastapi_users\n"),
        ("s = 'from fastapi import FastAPI'  # from fastapi import x\n",
         "s = 'from fastapi import FastAPI'  # from fastapi import x\n"),
    ],
)  # fmt: skip
def test_rewrites(old, new):
    assert rewritten(old) == new
    assert rewritten(new) == new


def test_import_binds_the_same_names():
    space = {}
    exec(rewritten("import fastapi.routing\nroute = fastapi.routing.APIRoute\n"), space)
    assert space["route"].__module__.startswith("turboapi.routing")


def test_notes():
    assert notes("from fastapi import FastAPI, Depends\nfrom fastapi import routing\n") == []
    assert notes("from fastapi import NoSuchName\n") == ["TurboAPI has no fastapi.NoSuchName"]
    assert notes("from fastapi.nowhere import x\n") == ["TurboAPI has no module fastapi.nowhere"]
    assert notes("import fastapi.nowhere\n") == ["TurboAPI has no module fastapi.nowhere"]
    assert "private" in notes("from fastapi._compat import ModelField\n")[0]
    assert "private" in notes("from fastapi.dependencies.utils import _get_form_model\n")[0]
    assert "'fastapi.routing'" in notes("patch('fastapi.routing')\n")[0]
    assert "version" in notes("import fastapi\nprint(fastapi.__version__)\n")[0]
    assert notes("x = 'fastapi is nice'\n") == []


def test_note_of_a_library_that_needs_fastapi(monkeypatch):
    needs = {"lib": "FastAPI>=0.100", "other": "fastapi-users", "extra": "fastapi; extra == 'web'"}
    monkeypatch.setattr(migrate, "_distributions", lambda: {name: [name] for name in needs})
    monkeypatch.setattr(migrate.importlib.metadata, "requires", lambda name: [needs[name]])
    migrate._needs_fastapi.cache_clear()
    try:
        found = notes("import lib.x\nfrom lib import y\nimport other, extra\n")
    finally:
        migrate._needs_fastapi.cache_clear()
    assert found == ["lib imports FastAPI itself: call turboapi.as_fastapi() before it"]


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_bytes(b"from fastapi import FastAPI\r\n# \xc3\xa9\r\n")
    (tmp_path / "app" / "other.py").write_text("import os\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "lib.py").write_text("import fastapi\n")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / "env" / "lib.py").write_text("import fastapi\n")
    return tmp_path


def test_command_writes(project, capsys):
    assert migrate.main([str(project)]) == 0
    main = project / "app" / "main.py"
    assert main.read_bytes() == b"from turboapi import FastAPI\r\n# \xc3\xa9\r\n"
    assert (project / ".venv" / "lib.py").read_text() == "import fastapi\n"
    assert (project / "env" / "lib.py").read_text() == "import fastapi\n"
    assert "1 of 2 files rewritten" in capsys.readouterr().err
    assert migrate.main(["--check", str(project)]) == 0


def test_command_checks_and_shows(project, capsys):
    main = project / "app" / "main.py"
    before = main.read_bytes()
    assert migrate.main(["--check", str(project)]) == 1
    assert f"{main}: imports fastapi" in capsys.readouterr().out
    assert migrate.main(["--diff", str(project)]) == 0
    out = capsys.readouterr().out
    assert "-from fastapi import FastAPI" in out
    assert "+from turboapi import FastAPI" in out
    assert migrate.main(["--diff", "--check", str(main)]) == 1
    assert main.read_bytes() == before


def test_command_goes_on_after_a_bad_file(project, capsys):
    (project / "app" / "bad.py").write_text("def (:\n")
    assert migrate.main([str(project)]) == 2
    assert "bad.py" in capsys.readouterr().err
    assert b"turboapi" in (project / "app" / "main.py").read_bytes()
    assert migrate.main([str(project / "nowhere")]) == 2


def test_keeps_the_encoding(tmp_path):
    path = tmp_path / "a.py"
    text = "# -*- coding: latin-1 -*-\nx = 'é'; import fastapi\n"
    path.write_bytes(text.encode("latin-1"))
    assert migrate.main([str(path)]) == 0
    assert path.read_bytes() == text.replace("import fastapi", "import turboapi as fastapi").encode(
        "latin-1"
    )
