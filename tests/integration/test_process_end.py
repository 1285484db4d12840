"""How a process of ours behaves in its first moments and in its last ones."""

import re
import signal
import subprocess
import sys

import patience
import pytest
from cli_kit import APP, LOCAL, PATIENCE, Server, until

# Start-up stays where it is while there is a file `hold`.
IMPORT = """
import pathlib, time
pathlib.Path("starting").touch()
while pathlib.Path("hold").exists():
    time.sleep(0.02)
"""

# What a signal raises here is lost.
CALLBACK = """
import pathlib, time, weakref

def stay(_reference=None):
    pathlib.Path("starting").touch()
    while pathlib.Path("hold").exists():
        time.sleep(0.02)

class Thing: pass
thing = Thing()
reference = weakref.ref(thing, stay)
del thing
stay()
"""

# And here it becomes a RuntimeError.
SET_NAME = """
import pathlib, time

class Attribute:
    def __set_name__(self, owner, name):
        pathlib.Path("starting").touch()
        while pathlib.Path("hold").exists():
            time.sleep(0.02)

class Thing:
    attribute = Attribute()
"""

SWALLOW = """
import pathlib, time
try:
    pathlib.Path("starting").touch()
    while True:
        time.sleep(0.02)
except BaseException:
    pass
"""

LIFESPAN = """
import asyncio, contextlib, pathlib
from turboapi import FastAPI

@contextlib.asynccontextmanager
async def life(app):
    pathlib.Path("starting").touch()
    try:
        await asyncio.sleep(1000)
    finally:
        pathlib.Path("cleaned").touch()
    yield

app = FastAPI(lifespan=life)
"""

STUBBORN = """
import asyncio, contextlib, pathlib
from turboapi import FastAPI

@contextlib.asynccontextmanager
async def life(app):
    pathlib.Path("starting").touch()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(1000)
    yield
    pathlib.Path("cleaned").touch()

app = FastAPI(lifespan=life)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


# -- Stopped while it starts


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--reload",)], ids=str)
@pytest.mark.parametrize("start", [IMPORT + APP, LIFESPAN], ids=["import", "lifespan"])
def test_stopped_while_it_starts(folder, start, more, number, expected):
    (folder / "main.py").write_text(start)
    (folder / "hold").touch()
    with Server(folder, "run", *LOCAL, *more) as server:
        until((folder / "starting").exists, "the start-up")
        server.send(number)
        assert server.ended() == expected, server.log
    assert "Traceback" not in server.log
    assert (folder / "cleaned").exists() == (start is LIFESPAN)


def test_what_asks_for_a_new_program_while_one_starts_ends_none(folder):
    (folder / "main.py").write_text(IMPORT + APP)
    (folder / "hold").touch()
    with Server(folder, "run", *LOCAL) as server:
        until((folder / "starting").exists, "the start-up")
        server.send(signal.SIGUSR2)
        (folder / "hold").unlink()
        server.started()
        assert "is the application's" not in server.log
        server.send(signal.SIGTERM)
        assert server.ended() == 0


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=str)
@pytest.mark.parametrize("start", [CALLBACK + APP, SET_NAME + APP], ids=["callback", "set_name"])
def test_stopped_where_exceptions_do_not_get_through(folder, start, more):
    (folder / "main.py").write_text(start)
    (folder / "hold").touch()
    with Server(folder, "run", *LOCAL, *more) as server:
        until((folder / "starting").exists, "the start-up")
        server.send(signal.SIGTERM)
        assert server.ended() == 0, server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize("start", [SWALLOW + APP, STUBBORN], ids=["import", "lifespan"])
def test_start_up_that_does_not_heed_it(folder, start):
    (folder / "main.py").write_text(start)
    with Server(folder, "run", *LOCAL) as server:
        until((folder / "starting").exists, "the start-up")
        server.send(signal.SIGTERM)
        assert server.ended() == 0, server.log
    assert "Traceback" not in server.log
    assert "Listening" not in server.log
    assert (folder / "cleaned").exists() == (start is STUBBORN)


@pytest.mark.parametrize("arguments", [("-m", "turboapi"), ("-m", "turboapi._serving.worker", "0")])
def test_stopped_before_the_package_is_imported(tmp_path, arguments):
    # Starlette is the first thing that it imports.
    (tmp_path / "starlette.py").write_text(IMPORT)
    (tmp_path / "hold").touch()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    until((tmp_path / "starting").exists, "the import")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "")


def test_programs_that_import_the_package_keep_their_signals():
    code = (
        "import signal, turboapi, turboapi.cli\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


# -- The end

ENDING = """
import atexit, pathlib, sys, threading, time

class Late:
    def __del__(self):
        pathlib.Path("taken-apart").touch()

late = Late()
late.itself = late

def at_exit():
    pathlib.Path("at-exit").touch()
    print("printed at the end", end="")

atexit.register(at_exit)
"""


@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--reload",)], ids=str)
def test_the_end_runs_what_atexit_has_and_no_more(folder, more):
    (folder / "main.py").write_text(ENDING + APP)
    with Server(folder, "run", *LOCAL, *more, PYTHONUNBUFFERED="").started() as server:
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert (folder / "at-exit").exists()
    assert "printed at the end" in server.log
    assert not (folder / "taken-apart").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stuck", "said"),
    [
        ("atexit.register(time.sleep, 1000)", "a handler of atexit that did not end"),
        (
            "threading.Thread(target=time.sleep, args=(1000,), name='mine').start()",
            "threads that did not end: mine",
        ),
    ],
)
def test_the_end_is_bounded(folder, stuck, said):
    (folder / "main.py").write_text(f"{ENDING}\n{stuck}\n{APP}")
    with Server(folder, "run", *LOCAL).started() as server:
        server.send(signal.SIGTERM)
        assert server.ended(patience.seconds(20)) == 0
    assert f"WARNING:  The process ends in spite of {said}" in server.log


def test_a_signal_ends_the_end(folder):
    stuck = "atexit.register(lambda: (pathlib.Path('stuck').touch(), time.sleep(1000)))"
    (folder / "main.py").write_text(f"{ENDING}\n{stuck}\n{APP}")
    with Server(folder, "run", *LOCAL).started() as server:
        server.send(signal.SIGTERM)
        until((folder / "stuck").exists, "the handler")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert "in spite of" not in server.log


def test_programs_of_others_go_on(folder):
    """`app.run()` returns, and a tool that runs the command gets to its own end."""
    (folder / "script.py").write_text(
        "import contextlib, os, runpy, signal, sys, threading\n"
        "from turboapi import FastAPI\n"
        "from turboapi._serving.run import run\n"
        "@contextlib.asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()\n"
        "    yield\n"
        "run(FastAPI(lifespan=lifespan), port=0)\n"
        "sys.argv = ['turboapi', 'version']\n"
        "try:\n"
        "    runpy.run_module('turboapi', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    print('both ended', end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert re.search(r"^both ended (0|None)$", done.stdout, re.MULTILINE), done.stdout
