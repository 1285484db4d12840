"""`--preload`: one import, workers that are forked from the process that did it."""

import ctypes
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from cli_kit import LOCAL, Clients, Server, gone, run, until

from turboapi._serving import template
from turboapi._serving.freezer import Freezer
from turboapi._serving.run import run as run_app
from turboapi.config import Config, ConfigError

APP = """
import asyncio, contextlib, gc, os, pathlib, threading, time
from turboapi import FastAPI
from turboapi.responses import PlainTextResponse

imported_by = os.getpid()
with open("imports", "a") as file:
    file.write(f"{imported_by}\\n")
pool = {"made by": imported_by}
os.register_at_fork(after_in_child=lambda: pool.update({"made by": os.getpid()}))
started = []

@contextlib.asynccontextmanager
async def lifespan(app):
    started.append(os.getpid())
    yield

app = FastAPI(lifespan=lifespan)
# As large as the data of an application may be.
heap = ["x" * 100 + str(i) for i in range(200_000)]

@app.get("/")
async def root():
    return PlainTextResponse("one")

@app.get("/pid")
async def pid():
    return PlainTextResponse(str(os.getpid()))

@app.get("/import")
async def by():
    return PlainTextResponse(str(imported_by))

@app.get("/pool")
def in_thread():
    assert threading.current_thread() is not threading.main_thread()
    return PlainTextResponse(str(pool["made by"] == os.getpid() and started == [os.getpid()]))

@app.get("/executor")
async def executor():
    return PlainTextResponse(str(await asyncio.to_thread(os.getpid) == os.getpid()))

@app.get("/frozen")
async def frozen():
    return PlainTextResponse(str(gc.get_freeze_count()))

@app.get("/kill/{number}")
async def kill(number: int):
    os.kill(os.getpid(), number)
"""

PR_SET_CHILD_SUBREAPER = 36

PRELOAD = (*LOCAL, "--preload", "--workers", "2", "--no-access-log")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture
def two(folder):
    with Server(folder, "run", "main:app", *PRELOAD).started() as server:
        yield server


@pytest.fixture
def adopts_orphans():
    """Have the kernel make processes whose parents died children of this one."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        pytest.skip("the kernel has no PR_SET_CHILD_SUBREAPER")
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def imports(folder):
    return (folder / "imports").read_text().split()


def test_one_import_for_all_workers(two, folder):
    pids = two.pids(2)
    (template,) = imports(folder)
    assert two.get("/import") == template
    assert int(template) not in {*pids, two.process.pid}
    for _ in range(4):
        assert two.get("/pool") == "True"
        assert two.get("/executor") == "True"
        assert int(two.get("/frozen")) > 10_000
    two.send(signal.SIGTERM)
    assert two.ended() == 0
    until(lambda: all(gone(pid) for pid in [int(template), *pids]), "the end of all")


def test_a_worker_that_dies_is_forked_again(two, folder):
    (pid,) = {int(two.get("/pid"))}
    os.kill(pid, signal.SIGKILL)
    two.saw(rf"process {pid}\) was ended by SIGKILL; starting another")
    until(lambda: len(two.pids(2)) == 2, "two workers")
    assert len(imports(folder)) == 1


def test_a_worker_that_is_replaced(folder):
    options = (*LOCAL, "--preload", "--max-requests", "20", "--no-access-log")
    with (
        Server(folder, "run", "main:app", *options).started() as server,
        Clients(server.port, 4) as clients,
    ):
        until(lambda: len(re.findall(r"is to replace", server.log)) >= 2, "two successors")
    assert clients.lost == []
    assert len(imports(folder)) == 1


def test_sighup_imports_anew(two, folder):
    old = two.pids(2)
    (folder / "main.py").write_text(APP.replace('Response("one")', 'Response("two")'))
    two.send(signal.SIGHUP)
    until(lambda: all(gone(pid) for pid in old), "the end of the old workers")
    assert two.get() == "two"
    first, second = imports(folder)
    assert two.get("/import") == second
    until(lambda: gone(int(first)), "the end of the old template")
    two.send(signal.SIGTERM)
    assert two.ended() == 0


def test_an_import_that_fails_later_changes_nothing(two, folder):
    (folder / "main.py").write_text("raise RuntimeError('broken')\n")
    two.send(signal.SIGHUP)
    two.saw("RuntimeError: broken")
    two.saw("could not be imported anew; the old workers go on")
    pid = int(two.get("/pid"))
    os.kill(pid, signal.SIGKILL)  # a successor has the application that was there
    two.saw("starting another")
    assert two.get() == "one"
    (folder / "main.py").write_text(APP.replace('Response("one")', 'Response("two")'))
    two.send(signal.SIGHUP)
    until(lambda: two.answers() == "two", "the new application")


def test_an_import_that_fails_at_first(folder):
    (folder / "main.py").write_text("raise RuntimeError('broken')\n")
    code, output = run(folder, "run", "main:app", *PRELOAD)
    assert code == 3
    assert "RuntimeError: broken" in output
    assert "The application could not be imported" in output
    assert output.count("RuntimeError: broken") == 1


def test_a_lifespan_that_fails_at_first(folder):
    (folder / "main.py").write_text(APP.replace("    started.append(os.getpid())", "    1 / 0"))
    code, output = run(folder, "run", "main:app", *PRELOAD)
    assert code == 3, output
    assert "ZeroDivisionError" in output


def test_stopped_while_it_imports(folder):
    (folder / "main.py").write_text("import pathlib, time\npathlib.Path('t').touch()\n"
                                    "time.sleep(100)\n")  # fmt: skip
    with Server(folder, "run", "main:app", *PRELOAD) as server:
        until((folder / "t").exists, "the import")
        server.send(signal.SIGTERM)
        assert server.ended() == 0


def test_another_import_is_begun_when_a_signal_ends_the_first(folder):
    (folder / "hold").touch()
    (folder / "main.py").write_text("import pathlib, time\npathlib.Path('t').touch()\n"
                                    "while pathlib.Path('hold').exists(): time.sleep(0.02)\n"
                                    + APP)  # fmt: skip
    with Server(folder, "run", "main:app", *PRELOAD) as server:
        until((folder / "t").exists, "the import")
        os.kill(int(server.saw(r"Process (\d+) imports")[1]), signal.SIGKILL)
        server.saw("was ended by SIGKILL; starting another\n")
        (folder / "hold").unlink()
        server.started()
        server.send(signal.SIGTERM)
        assert server.ended() == 0


def test_the_template_ends_when_the_supervisor_was_killed_before_it_read(folder):
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.send(b"ready")
        ours.close()
        assert template._receive(theirs) is None


def test_the_template_is_imported_again_when_it_dies(two, folder):
    (template,) = imports(folder)
    pids = two.pids(2)
    os.kill(int(template), signal.SIGKILL)
    until(lambda: len(imports(folder)) == 2, "another import")
    until(lambda: all(gone(pid) for pid in pids), "workers of the new one")
    assert len(two.pids(2)) == 2
    two.send(signal.SIGTERM)
    assert two.ended() == 0


def test_orphans_that_nobody_waits_for(folder, adopts_orphans):
    """As in a container whose process 1 never waits for the children it is given."""
    with Server(folder, "run", "main:app", *PRELOAD).started() as server:
        pids = server.pids(2)
        os.kill(int(imports(folder)[0]), signal.SIGKILL)
        until(lambda: all(gone(pid) for pid in pids), "the end of the old workers")
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert {os.waitpid(pid, 0)[0] for pid in pids} == set(pids)


def test_threads_of_the_import_are_told_of(folder):
    (folder / "main.py").write_text(
        APP + "threading.Thread(target=time.sleep, args=(100,), daemon=True, name='mine').start()\n"
    )
    with Server(folder, "run", "main:app", *PRELOAD).started() as server:
        server.saw("the import has started threads, which workers do not have: mine")
        assert server.get() == "one"


def pss(pids):
    """Memory in bytes, where what several processes share counts once."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss: +(\d+) kB", text, re.M)[1]) * 1024
    return total


def test_memory_is_shared(two, folder):
    pids = two.pids(2)
    for _ in range(50):
        two.get()
    time.sleep(0.5)  # for what is done after the start
    # Each worker's part of the strings alone would be more than 30 MB if it had its own.
    shared = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    for text in shared:
        clean = int(re.search(r"^Shared_Dirty: +(\d+) kB", text, re.M)[1])
        assert clean > 20_000, text
    assert pss(pids) < 2 * pss([int(imports(folder)[0])]) + 2**28


def test_with_metrics_and_a_reload_of_the_program(folder):
    options = ("--metrics", f"unix:{folder / 'metrics'}")
    with Server(folder, "run", "main:app", *PRELOAD, *options).started() as server:
        two = server.pids(2)
        server.send(signal.SIGUSR2)
        new = int(server.saw(r"SIGUSR2: process (\d+) is to take over")[1])
        try:
            assert server.ended() == 0
            assert server.get() == "one"
            assert all(gone(pid) for pid in two)
        finally:
            os.kill(new, signal.SIGTERM)
            until(lambda: gone(new), "an end")


def test_with_what_it_can_not_be_used():
    with pytest.raises(ConfigError, match="preload: can't be used together with reload"):
        Config(preload=True, reload=True)
    with pytest.raises(ConfigError, match="preload: needs the application as an import string"):
        run_app(lambda scope: None, preload=True)


def test_what_comes_after_the_fork_is_frozen_too(monkeypatch):
    import gc

    frozen = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 1)
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    Freezer(True).freeze()
    assert frozen == []
    Freezer(True, more=True).freeze()
    assert frozen == [1]
