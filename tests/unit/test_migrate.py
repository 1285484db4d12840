"""`turboapi migrate` and `turboapi.as_fastapi()`."""

import json
import subprocess
import sys
import textwrap

import patience
import pytest
from typer.testing import CliRunner

from turboapi import _migrate_imports as migrate
from turboapi._migrate_servers import notes_of_commands
from turboapi.cli._commands import app


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


def call(*words):
    return CliRunner().invoke(app, ["migrate", *map(str, words)])


def test_command_writes_when_told_to(project):
    main = project / "app" / "main.py"
    before = main.read_bytes()
    done = call(project)
    assert (done.exit_code, main.read_bytes()) == (0, before)
    assert f"{main}: imports fastapi" in done.stdout
    assert "1 of 2 files to rewrite, 0 notes; --write does it" in done.stderr
    done = call("--write", project)
    assert done.exit_code == 0
    assert main.read_bytes() == b"from turboapi import FastAPI\r\n# \xc3\xa9\r\n"
    assert (project / ".venv" / "lib.py").read_text() == "import fastapi\n"
    assert (project / "env" / "lib.py").read_text() == "import fastapi\n"
    assert "1 of 2 files rewritten" in done.stderr
    assert call("--check", project).exit_code == 0
    assert call("--write", "--diff", project).exit_code == 2


def test_command_checks_and_shows(project):
    main = project / "app" / "main.py"
    before = main.read_bytes()
    done = call("--check", project)
    assert done.exit_code == 1
    assert f"{main}: imports fastapi" in done.stdout
    done = call("--diff", project)
    assert done.exit_code == 0
    assert "-from fastapi import FastAPI" in done.stdout
    assert "+from turboapi import FastAPI" in done.stdout
    assert call("--diff", "--check", main).exit_code == 1
    assert main.read_bytes() == before


def test_command_goes_on_after_a_bad_file(project):
    bad = project / "app" / "bad.py"
    bad.write_text("import os\ndef (:\n")
    done = call("--write", project)
    assert done.exit_code == 2
    assert f"{bad}:2: this is not Python: invalid syntax\n" in done.stderr
    assert b"turboapi" in (project / "app" / "main.py").read_bytes()
    assert call(project / "nowhere").exit_code == 2


def test_as_a_module(project):
    done = subprocess.run(
        [sys.executable, "-m", "turboapi.migrate", "--check"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=patience.seconds(20),
    )
    assert (done.returncode, done.stdout) == (1, "app/main.py: imports fastapi\n"), done.stderr


def test_keeps_the_encoding(tmp_path):
    path = tmp_path / "a.py"
    text = "# -*- coding: latin-1 -*-\nx = 'é'; import fastapi\n"
    path.write_bytes(text.encode("latin-1"))
    assert call("--write", path).exit_code == 0
    assert path.read_bytes() == text.replace("import fastapi", "import turboapi as fastapi").encode(
        "latin-1"
    )


# -- how servers are started -----------------------------------------------------------------------


def commands(text):
    return [f"{note.line}: {note.text}" for note in notes_of_commands(text)]


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        (
            "uvicorn main:app --host 0.0.0.0 --port 80",
            "turboapi run main:app --host 0.0.0.0 --port 80",
        ),
        ("uvicorn main:app", "turboapi run main:app --host 127.0.0.1"),
        (
            "python -m uvicorn --reload shop.main:app --uds /run/x",
            "turboapi run --reload shop.main:app --uds /run/x",
        ),
        (
            "uvicorn a:b --host=:: --http httptools --loop auto --limit-max-requests=5",
            "turboapi run a:b --host :: --max-requests 5",
        ),
        (
            "uvicorn a:b --no-access-log --proxy-headers --host $HOST --port ${PORT:-80}",
            "turboapi run a:b --no-access-log --proxy-headers --host $HOST --port ${PORT:-80}",
        ),
        ("fastapi run app/main.py --port 80", "turboapi run app/main.py --port 80"),
        ("fastapi dev", "turboapi dev"),
        (
            "hypercorn a:b -b :80 -w 4 -k uvloop --keep-alive 5",
            "turboapi run a:b --bind :80 --workers 4 --timeout-idle 5",
        ),
    ],
    ids=str,
)
def test_command_lines(line, ours):
    assert commands(line) == [f"1: {line} -> {ours}"]
    # As they stand in other files.
    assert commands(f"web: {line}\n") == [f"1: {line} -> {ours}"]
    assert commands(f"#!/bin/sh\nset -e\nexec {line} # it serves\n") == [f"3: {line} -> {ours}"]
    assert commands(f"RUN x\nCMD x && {line} && y\n") == [f"2: {line} -> {ours}"]
    assert commands(f'    command: "{line}"\n') == [f"1: {line} -> {ours}"]
    words, our_words = line.split(), ours.split()
    in_list = json.dumps(words)
    assert commands(f"# x\nCMD {in_list}\n") == [f"2: {in_list} -> {json.dumps(our_words)}"]
    if words[0] != "python":
        items = "\n".join(f"  - {word}" for word in words)
        assert commands(f"command:\n{items}\nports: []\n") == [
            f"2: {in_list} -> {json.dumps(our_words)}"
        ]
    if len(words) > 2:
        broken = f"{words[0]} {words[1]} \\\n    " + " ".join(words[2:])
        assert commands(f"FROM x\nCMD {broken}\n") == [f"2: {line} -> {ours}"]


def test_command_lines_with_something_to_say():
    assert commands("gunicorn main:app -w 4 -k uvicorn.workers.UvicornWorker -b :80") == [
        "1: gunicorn main:app -w 4 -k uvicorn.workers.UvicornWorker -b :80 -> "
        "turboapi run main:app --workers 4 --bind :80",
        "1: or keep gunicorn: gunicorn -k turboapi.gunicorn.Worker ...",
    ]
    found = commands("uvicorn a:b --host x --ssl-version 17 --nonsense 1")
    assert found[0].endswith("-> turboapi run a:b --host x")
    assert found[1:] == [
        "1: --ssl-version: use --ssl-min-version (ssl_min_version)",
        "1: --nonsense: there is no such option here; see turboapi run --help",
    ]


QUOTED = "--forwarded-allow-ips '*' --header \"X-A: b c\""


@pytest.mark.parametrize(
    ("line", "old", "ours"),
    [
        (
            f'exec uvicorn main:app {QUOTED} --uds="$A b" > log 2>&1',
            f'uvicorn main:app {QUOTED} --uds="$A b"',
            f'turboapi run main:app {QUOTED} --uds "$A b"',
        ),
        (
            'ExecStart=/srv/bin/uvicorn a:b --fd 3 --app-dir "/srv/my app"',
            '/srv/bin/uvicorn a:b --fd 3 --app-dir "/srv/my app"',
            '/srv/bin/turboapi run a:b --fd 3 --app-dir "/srv/my app"',
        ),
        (
            f"CMD sh -c 'uvicorn a:b --uds x' && uvicorn a:b {QUOTED}",
            "uvicorn a:b --uds x",
            "turboapi run a:b --uds x",
        ),
        (
            r' "start": "cd x; uvicorn a:b --fd 3 --header \"X: y\"",',
            r"uvicorn a:b --fd 3 --header \"X: y\"",
            r"turboapi run a:b --fd 3 --header \"X: y\"",
        ),
        (
            'CMD ["bash", "-c", "uvicorn a:b --fd $FD --header \'X: y\'"]',
            "uvicorn a:b --fd $FD --header 'X: y'",
            "turboapi run a:b --fd $FD --header 'X: y'",
        ),
        (
            """CMD ["uvicorn", "a:b", "--fd", "3", "--header", "X: it's"]""",
            """["uvicorn", "a:b", "--fd", "3", "--header", "X: it's"]""",
            """["turboapi", "run", "a:b", "--fd", "3", "--header", "X: it's"]""",
        ),
        (
            "(uvicorn a:b --fd $(cat fd) '--uds=my x' &)",
            "uvicorn a:b --fd $(cat fd) '--uds=my x'",
            "turboapi run a:b --fd $(cat fd) --uds 'my x'",
        ),
    ],
    ids=str,
)
def test_command_lines_with_quotes(line, old, ours):
    assert commands(line) == [f"1: {old} -> {ours}"]


def test_command_lines_of_gunicorn():
    line = (
        "gunicorn 'main:make()' -w4 -t 60 --worker-class=x --forwarded-allow-ips '*' "
        "--daemon --name shop -c conf.py --access-logfile - --timeout=5"
    )
    found = commands(line)
    assert found == [
        f"1: {line} -> turboapi run 'main:make()' --workers 4 --timeout-worker 60 "
        "--forwarded-allow-ips '*' --process-name shop --timeout-worker 5",
        "1: --daemon: there is no such option here; see turboapi run --help",
        "1: --config conf.py: the file is not read: give what it sets as options",
        "1: --access-logfile -: not needed, as that log goes to stdout",
        "1: or keep gunicorn: gunicorn -k turboapi.gunicorn.Worker ...",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "RUN pip install uvicorn[standard] gunicorn",
        "# uvicorn main:app",
        "[program:uvicorn]",
        "image: uvicorn",
        "fastapi login",
        "we like uvicorn a lot: it serves",
        "/usr/bin/my-uvicorn main:app",
    ],
)
def test_other_lines_say_nothing(line):
    assert commands(line + "\n") == []


def test_requirements():
    needless = "uvicorn is not needed where TurboAPI serves"
    assert commands("uvicorn[standard]>=0.30\nuvicorn-worker\nuvicorn\n") == [
        f"1: {needless}",
        f"3: {needless}",
    ]
    assert commands('dependencies = [\n    "uvicorn>=0.30",\n]\n') == [f"2: {needless}"]


@pytest.mark.parametrize(
    ("line", "old", "ours"),
    [
        ("fastapi", "fastapi", "turboapi-c"),
        ("fastapi==0.165.0", "fastapi==0.165.0", "turboapi-c"),
        (
            "fastapi[standard]>=0.160,<1  # ours",
            "fastapi[standard]>=0.160,<1",
            "turboapi-c[standard]",
        ),
        ("fastapi ~= 0.165; python_version > '3.10'", "fastapi ~= 0.165", "turboapi-c"),
        ('    "fastapi[all]>=0.165",', "fastapi[all]>=0.165", "turboapi-c[all]"),
        ('fastapi = {version = "^0.165", extras = ["all"]}', "fastapi", "turboapi-c"),
    ],
)
def test_the_framework_in_requirements(line, old, ours):
    both = "keep both if a library imports fastapi"
    assert commands(f"{line}\n") == [f"1: {old} -> {ours} ({both})"]


@pytest.mark.parametrize(
    "line", ["fastapi-users==1", "fastapi_pagination", "fastapi:", '"fastapi": 1', "# fastapi"]
)
def test_what_is_not_the_framework(line):
    assert commands(f"{line}\n") == []


def test_calls_of_uvicorn():
    assert notes("import uvicorn\nuvicorn.run('a:b', port=1)\n") == [
        "uvicorn.run: turboapi.run takes the same arguments"
    ]
    assert notes("from uvicorn import Config, Server, main\n") == [
        "uvicorn.Config: turboapi.Config takes the same arguments",
        "uvicorn.Server: turboapi.Server takes the same arguments",
    ]
    found = notes("import uvicorn\nuvicorn.run(app, http='h11', callback_notify=f)\n")
    assert "callback_notify: run a task in the application's lifespan" in found
    assert len(found) == 2
    assert notes("worker_class = 'uvicorn.workers.UvicornWorker'\n") == [
        "'uvicorn.workers.UvicornWorker': here it is 'turboapi.gunicorn.Worker'"
    ]
    assert notes("run('a:b')\nself.uvicorn.stop()\n") == []


def test_a_project(tmp_path):
    """Files are found by their names, and nothing is written."""
    files = {
        "Dockerfile": 'FROM python\nCMD ["uvicorn", "main:app", "--host", "0.0.0.0"]\n',
        "Procfile": "web: uvicorn main:app --host 0.0.0.0 --port $PORT\n",
        "docker-compose.yml": "services:\n  web:\n    command: fastapi run main.py\n",
        "deploy/web.service": "ExecStart=/srv/venv/bin/uvicorn main:app\n",
        "README.md": "uvicorn main:app\n",
        "main.py": "import uvicorn\nfrom fastapi import FastAPI\nuvicorn.run('main:app')\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = call(tmp_path)
    assert done.exit_code == 0
    said = done.stdout.replace(f"{tmp_path}/", "")
    assert said.splitlines() == [
        "main.py: imports fastapi",
        'Dockerfile:2: ["uvicorn", "main:app", "--host", "0.0.0.0"] -> '
        '["turboapi", "run", "main:app", "--host", "0.0.0.0"]',
        "Procfile:1: uvicorn main:app --host 0.0.0.0 --port $PORT -> "
        "turboapi run main:app --host 0.0.0.0 --port $PORT",
        "docker-compose.yml:3: fastapi run main.py -> turboapi run main.py",
        "main.py:3: uvicorn.run: turboapi.run takes the same arguments",
        "deploy/web.service:1: /srv/venv/bin/uvicorn main:app -> "
        "/srv/venv/bin/turboapi run main:app --host 127.0.0.1",
    ]
    assert all((tmp_path / name).read_text() == text for name, text in files.items())
