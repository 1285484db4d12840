"""SIGHUP: one process that starts anew as several do, and terminals that go away."""

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys

import pytest
from cli_kit import LOCAL, PATIENCE, Clients, Server, gone, until

LIFESPAN = """
import os, pathlib, time

BODY = "one"

def note(what):
    with open("notes", "a") as file:
        file.write(f"{what} {os.getpid()}\\n")

note("import")
while pathlib.Path("hold").exists():
    time.sleep(0.02)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        note("start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("stop")
        await send({"type": "lifespan.shutdown.complete"})
        return
    import asyncio
    if scope["path"] == "/wait":
        note("wait")
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.02)
    body = (str(os.getpid()) if scope["path"] == "/pid" else BODY).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture(autouse=True)
def hangups_are_heeded():
    """Programs that were started under nohup ignore SIGHUP, and so do those that they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(LIFESPAN)
    return tmp_path


def notes(folder, what):
    with contextlib.suppress(FileNotFoundError):
        lines = (folder / "notes").read_text().splitlines()
        return [int(pid) for word, pid in map(str.split, lines) if word == what]
    return []


def pid_of(server):
    """Of the process that answers."""
    with contextlib.suppress(OSError):
        return int(server.get("/pid"))
    return 0


@pytest.mark.parametrize("more", [(), ("--loop", "uvloop"), ("--threads", "2")], ids=str)
def test_one_process_starts_anew(folder, more):
    if "uvloop" in more:
        pytest.importorskip("uvloop")
    with Server(folder, "run", *LOCAL, "--no-access-log", *more).started() as server:
        first = server.process.pid
        assert pid_of(server) == first
        with Clients(server.port, 4) as clients:
            until(lambda: clients.answered > 20, "answers")
            server.send(signal.SIGHUP)
            server.saw(f"Process {first} is the supervisor of")
            until(lambda: pid_of(server) != first, "another process")
            second = pid_of(server)
            # The command goes on under its number, and can be told again.
            server.send(signal.SIGHUP)
            until(lambda: gone(second), "a third process")
            until(lambda: clients.answered > 100, "answers")
        assert clients.lost == []
        third = pid_of(server)
        assert set(notes(folder, "stop")) == {first, second}
        server.send(signal.SIGTERM)
        assert server.ended() == 0
        assert gone(third)
    assert set(notes(folder, "stop")) == {first, second, third}


def test_the_old_program_is_gone(folder):
    main = folder / "main.py"
    main.write_text(
        main.read_text()
        + "import atexit, threading\n"
        + "atexit.register(note, 'exit')\n"
        + "def tick():\n    while True:\n        note('tick')\n        time.sleep(0.1)\n"
        + "threading.Thread(target=tick, daemon=True).start()\n"
    )
    with Server(folder, "run", *LOCAL).started() as server:
        first = server.process.pid
        server.send(signal.SIGHUP)
        server.saw(f"Process {first} is the supervisor of")
        assert notes(folder, "exit") == [first]
        ticks = notes(folder, "tick").count(first)
        second = until(lambda: [pid for pid in notes(folder, "tick") if pid != first], "ticks")[0]
        until(lambda: notes(folder, "tick").count(second) > ticks + 3, "ticks of the new one")
        assert notes(folder, "tick").count(first) == ticks
        # What a supervisor does it does for this one, too.
        os.kill(second, signal.SIGKILL)
        until(lambda: pid_of(server) not in (0, second), "yet another one")
        server.send(signal.SIGINT)
        assert server.ended() == 0


def test_it_goes_on_when_the_new_code_is_broken(folder):
    with Server(folder, "run", *LOCAL).started() as server:
        main = folder / "main.py"
        working = main.read_text()
        main.write_text("raise RuntimeError('broken')\n")
        server.send(signal.SIGHUP)
        server.saw(r"Process \d+ ended with exit code 3; this one goes on")
        assert pid_of(server) == server.process.pid
        main.write_text(working.replace('"one"', '"two"'))
        server.send(signal.SIGHUP)
        until(lambda: server.answers() == "two", "the repaired code")


def test_it_goes_on_when_the_successor_is_not_ready_in_time(folder):
    with Server(folder, "run", *LOCAL, "--timeout-worker-start", "1").started() as server:
        (folder / "hold").touch()
        server.send(signal.SIGHUP)
        found = server.saw(r"Process (\d+) is not ready in time; this one goes on")
        until(lambda: gone(int(found[1])), "the successor's end")
        assert pid_of(server) == server.process.pid


def test_asked_again_while_the_successor_starts(folder):
    """The code may have changed after the successor read it: yet another one has to follow."""
    with Server(folder, "run", *LOCAL).started() as server:
        (folder / "hold").touch()
        server.send(signal.SIGHUP)
        until(lambda: notes(folder, "import")[1:], "the successor")
        main = folder / "main.py"
        main.write_text(main.read_text().replace('"one"', '"two"'))
        server.send(signal.SIGHUP)
        server.saw("then once more")
        (folder / "hold").unlink()
        until(lambda: server.answers() == "two", "the newest code")


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=str)
def test_asked_again_while_a_broken_successor_starts(folder, workers):
    with Server(folder, "run", *LOCAL, *workers).started() as server:
        main = folder / "main.py"
        working = main.read_text()
        served = len(notes(folder, "import"))
        (folder / "hold").touch()
        main.write_text(working + "raise RuntimeError('broken')\n")
        server.send(signal.SIGHUP)
        until(lambda: notes(folder, "import")[served:], "the broken successor")
        main.write_text(working.replace('"one"', '"two"'))
        server.send(signal.SIGHUP)
        server.saw("once more" if not workers else "(?s)one by one.*one by one")
        (folder / "hold").unlink()
        until(lambda: {server.answers() for _ in range(8)} == {"two"}, "the newest code")


def test_stopped_while_the_successor_starts(folder):
    with Server(folder, "run", *LOCAL).started() as server:
        (folder / "hold").touch()
        server.send(signal.SIGHUP)
        successor = until(lambda: notes(folder, "import")[1:], "the successor")[0]
        server.send(signal.SIGTERM)
        assert server.ended() == 0
        assert gone(successor)
    assert notes(folder, "stop") == [server.process.pid]


def test_stopped_while_the_old_one_still_has_something(folder):
    with Server(folder, "run", *LOCAL).started() as server:
        first = server.process.pid
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(b"GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            until(lambda: notes(folder, "wait"), "the request")
            server.send(signal.SIGHUP)
            server.saw("has taken over")
            server.send(signal.SIGTERM)
            until(lambda: len(notes(folder, "stop")) == 1, "the successor's end")
            (folder / "go").touch()
            assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"one")
        assert server.ended() == 0
    started = notes(folder, "start")
    assert started[0] == first
    assert sorted(notes(folder, "stop")) == sorted(started)
    assert all(map(gone, started))


def test_workers_stopped_while_one_is_replaced(folder):
    with Server(folder, "run", *LOCAL, "--workers", "2").started() as server:
        until(lambda: len(notes(folder, "start")) == 2, "both")
        (folder / "hold").touch()
        server.send(signal.SIGHUP)
        until(lambda: len(notes(folder, "import")) == 3, "a successor")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
        assert all(map(gone, notes(folder, "import")))


def test_unix_socket(folder):
    path = str(folder / "socket")

    def ask():
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(b"GET /pid HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return int(b"".join(iter(lambda: client.recv(4096), b"")).rpartition(b"\n")[2])
        return 0

    with Server(folder, "run", "--uds", path) as server:
        first = server.process.pid
        until(lambda: ask() == first, "an answer")
        server.send(signal.SIGHUP)
        until(lambda: ask() not in (0, first), "another process")
        server.saw("is the supervisor of")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert not os.path.exists(path)


@pytest.mark.parametrize("named", ["app", "'main:app'"])
def test_programs_that_call_run(folder, named):
    (folder / "script.py").write_text(
        "from main import app\nfrom turboapi._serving.run import run\n"
        f"run({named}, port=0)\nprint('returned')\n"
    )
    server = Server.__new__(Server)
    server.log_path, server.port = folder / "log.txt", 0
    with server.log_path.open("wb") as log:
        server.process = subprocess.Popen(
            [sys.executable, "script.py"], cwd=folder, stdout=log, stderr=log
        )
    with server.started():
        first = server.process.pid
        server.send(signal.SIGHUP)
        if named != "app":  # which can be imported again
            until(lambda: pid_of(server) not in (0, first), "another process")
            server.saw("is the supervisor of")
            server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert notes(folder, "stop")[0] == first
    assert "returned" in server.log


@pytest.mark.parametrize("loop", ["turboapi", "uvloop"])
@pytest.mark.parametrize("when", ["import", "startup", "loop"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_signals_that_the_application_handles(folder, number, when, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    call = f"({number:d}, lambda *_: note('own'))\n"
    if when == "import":
        (folder / "main.py").write_text(f"{LIFESPAN}\nimport signal; signal.signal{call}")
    else:
        place = "import signal; signal.signal"
        if when == "loop":
            place = "import asyncio; asyncio.get_running_loop().add_signal_handler"
        begun = '        note("start")\n'
        assert begun in LIFESPAN
        (folder / "main.py").write_text(LIFESPAN.replace(begun, f"{begun}        {place}{call}"))
    with Server(folder, "run", *LOCAL, "--loop", loop).started() as server:
        pid = server.process.pid
        server.send(number)
        until(lambda: notes(folder, "own") == [pid], "the application's handler")
        assert pid_of(server) == pid
        assert "is to take over" not in server.log
        server.send(signal.SIGTERM)
        assert server.ended() == 0
    assert notes(folder, "import") == notes(folder, "stop") == [pid]


# -- Terminals


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.15's
@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--reload",)], ids=str)
def test_the_terminal_goes_away(folder, more):
    """It ends then: nobody could stop it any more, and its port would stay in use."""
    pid, terminal = pty.fork()
    if pid == 0:  # the leader of a session with this terminal
        try:
            os.chdir(folder)
            command = [sys.executable, "-m", "turboapi", "run", *LOCAL, *more]
            os.execv(sys.executable, command)
        finally:
            os._exit(99)
    said = b""
    try:
        while not re.search(rb"Application startup complete", said):
            said += os.read(terminal, 4096)
        os.close(terminal)  # the kernel sends SIGHUP
        ended = until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, "the end")
    finally:
        if not locals().get("ended"):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    started = until(lambda: notes(folder, "start"), "notes")
    until(lambda: sorted(notes(folder, "stop")) == sorted(started), "the lifespan's end")
    until(lambda: all(map(gone, started)), "the end of all")


def test_children_of_others_leave_no_zombies():
    code = (
        "import os, time\n"
        "from turboapi._serving.supervisor import _reap_others\n"
        "children = [os.fork() or os._exit(i) for i in range(3)]\n"
        "while children:\n"
        "    _reap_others([], [])\n"
        "    children = [p for p in children if os.path.exists(f'/proc/{p}')]\n"
        "    time.sleep(0.01)\n"
        "_reap_others([], [])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
