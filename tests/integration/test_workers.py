"""Several processes that serve one address: how they come, go, die and share the work."""

import contextlib
import http.client
import os
import re
import resource
import signal
import socket
import time
from collections import Counter

import patience
import pytest
from cli_kit import APP, LOCAL, PATIENCE, Clients, Server, gone, run, until

from turboapi._serving.signals import ONE_STOP


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture
def two(folder):
    with Server(folder, "run", *LOCAL, "--workers", "2", "--no-access-log").started() as server:
        yield server


def test_workers_serve_and_end(two):
    pids = two.pids(2)
    assert two.process.pid not in pids
    two.send(signal.SIGTERM)
    assert two.ended() == 0
    assert all(gone(pid) for pid in pids)
    assert "All workers have ended" in two.log


def test_port_of_other_workers_is_not_shared(two, folder):
    code, output = run(
        folder, "run", "--host", "127.0.0.1", "--port", str(two.port), "--workers", "2"
    )
    assert code == 1
    assert output.startswith(f"Error: Port {two.port} on 127.0.0.1 is in use by ")


def test_clients_do_not_wait_for_a_worker_that_keeps_dying(folder):
    (folder / "main.py").write_text(
        APP + "\n"
        "import pathlib\n"
        "if pathlib.Path('first').exists():\n"
        "    os._exit(7)\n"
        "pathlib.Path('first').touch()\n"
    )
    # The first worker to come serves, all others die at once.
    with Server(folder, "run", *LOCAL, "--workers", "2").started() as server:
        server.saw(r"starting another in 1 s")
        for _ in range(30):
            assert server.get(timeout=patience.seconds(2)) == "one"


def test_dead_worker_is_replaced(two):
    victim, other = two.pids(2)
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in two.pids(2), "a new worker")
    assert other in two.pids(2)
    assert re.search(rf"process {victim}\) was ended by SIGKILL; starting another", two.log)


def descriptors(pid):
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


@pytest.mark.parametrize("mode", [[], ["--preload"]])
def test_where_no_process_can_be_started_the_old_workers_go_on(folder, mode):
    options = (*LOCAL, "--workers", "2", "--no-access-log", *mode)
    with Server(folder, "run", *options).started() as server:
        server.pids(2)
        pid = server.process.pid
        had = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        before = descriptors(pid)
        for spare in (0, 3, 7) if not mode else (0, 1):  # what a new process does not do with
            limit = [number for number in range(100) if number not in before][spare]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, had[1]))
            count = server.log.count("Too many open files")
            server.send(signal.SIGHUP)
            until(lambda: server.log.count("Too many open files") > count, "an error")  # noqa: B023
            assert server.get() == "one"
            assert descriptors(pid) == before
        old = server.pids(2)
        if not mode:
            server.send(signal.SIGTTIN)
            server.saw("SIGTTIN: 3 workers from now on\n.*No worker can be started")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, had)
        server.pids(2 if mode else 3)
        server.send(signal.SIGHUP)
        until(lambda: all(gone(each) for each in old), "the end of the old workers")
        server.send(signal.SIGTERM)
        assert server.ended() == 0
        assert "Traceback" not in server.log


def test_rolling_reload_loses_nothing(two):
    before = two.pids(2)
    with Clients(two.port) as clients:
        two.send(signal.SIGHUP)
        until(lambda: all(gone(pid) for pid in before), "the old workers' end")
    assert clients.answered > 10
    assert clients.lost == []
    assert not two.pids(2) & before


def test_every_worker_is_replaced_however_often_it_is_asked_for(two):
    before = two.pids(2)
    for times in range(1, 5):  # whenever a successor starts, it is asked for once more
        two.send(signal.SIGHUP)
        until(lambda times=times: two.log.count(" is to replace ") >= times, "a successor")
    until(lambda: all(gone(pid) for pid in before), "the old workers' end")
    until(lambda: two.log.count(" is to replace ") >= 5, "the last round")
    assert not two.pids(2) & before


def test_rolling_reload_keeps_old_workers_when_the_new_code_is_broken(two, folder):
    before = two.pids(2)
    (folder / "main.py").write_text("raise RuntimeError('broken')\n")
    two.send(signal.SIGHUP)
    two.saw("the old workers go on")
    assert two.pids(2) == before


def test_more_and_fewer_workers(two):
    two.pids(2)
    two.send(signal.SIGTTIN)
    assert len(two.pids(3)) == 3
    # One after the other, as equal signals that wait count as one.
    two.send(signal.SIGTTOU)
    two.saw("SIGTTOU: 2 workers from now on")
    two.send(signal.SIGTTOU)
    two.saw("SIGTTOU: 1 workers from now on")
    two.send(signal.SIGTTOU)
    two.saw("the last worker stays")
    time.sleep(1)
    assert len({two.get("/pid") for _ in range(10)}) == 1


def test_workers_do_not_outlive_a_killed_supervisor(two):
    pids = two.pids(2)
    two.send(signal.SIGKILL)
    two.ended()
    until(lambda: all(gone(pid) for pid in pids), "the workers' end")


def test_supervisor_stops_at_once_on_the_second_signal(two):
    with socket.create_connection(("127.0.0.1", two.port), PATIENCE) as client:
        client.sendall(b"GET /sleep60 HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.3)
        two.send(signal.SIGTERM)
        two.saw("SIGTERM: stopping the workers")
        time.sleep(3 * ONE_STOP)
        two.send(signal.SIGTERM)
        assert two.ended() == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_module_that_exits_when_it_is_imported(folder, workers):
    (folder / "leaves.py").write_text("import sys\nsys.exit(7)\n")
    code, output = run(folder, "run", "leaves:app", *LOCAL, "--workers", workers)
    assert code == 3
    assert "leaves called sys.exit(7) when it was imported" in output


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_workers_that_fail_at_the_same_time(folder, preload):
    """Their supervisor sees both ends at once."""
    (folder / "main.py").write_text(
        "import asyncio, contextlib, os, pathlib\nfrom turboapi import FastAPI\n"
        "@contextlib.asynccontextmanager\nasync def lifespan(app):\n"
        "    pathlib.Path(f'starts{os.getpid()}').touch()\n"
        "    while not os.path.exists('fail'): await asyncio.sleep(0.02)\n"
        "    1 / 0\n    yield\n"
        "app = FastAPI(lifespan=lifespan)\n"
    )
    with Server(folder, "run", "main:app", *LOCAL, "--workers", "2", *preload) as server:
        until(lambda: len(list(folder.glob("starts*"))) == 2, "both lifespans")
        pids = [int(each.name.removeprefix("starts")) for each in folder.glob("starts*")]
        server.send(signal.SIGSTOP)
        (folder / "fail").touch()
        until(lambda: all(gone(pid) for pid in pids), "both ends")
        server.send(signal.SIGCONT)
        assert server.ended() == 3, server.log
        assert server.log.count("could not start the application") == 1
        assert "All workers have ended" in server.log


def test_application_that_no_worker_can_import(folder):
    code, output = run(folder, "run", "main:nope", *LOCAL, "--workers", "2")
    assert code == 3
    assert "There is no attribute 'nope'" in output


# -- One socket for all

# Start-up waits while there is a file `hold`, and fails while there is one `broken`.
HELD = """
import os, pathlib, time
if pathlib.Path("broken").exists():
    os._exit(7)
pathlib.Path(f"importing-{os.getpid()}").touch()
while pathlib.Path("hold").exists():
    time.sleep(0.02)
"""

# /block keeps the loop until there is a file `go`.
BLOCKING = """
import os, pathlib, threading, time

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while scope["path"] == "/block" and not pathlib.Path("go").exists():
        pathlib.Path("blocked").touch()
        time.sleep(0.02)
    who = threading.get_ident() if scope["path"] == "/thread" else os.getpid()
    body = str(who).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


def test_no_connection_waits_for_a_dead_worker(folder):
    (folder / "main.py").write_text(HELD + APP)
    with Server(folder, "run", *LOCAL, "--workers", "3").started() as server:
        living = server.pids(3)
        (folder / "hold").touch()
        for victim in sorted(living)[:2]:
            os.kill(victim, signal.SIGKILL)
            living.discard(victim)
            # No successor can take one of these.
            for _ in range(30):
                assert int(server.get("/pid")) in living
        (folder / "hold").unlink()
        server.pids(3)


def test_clients_are_refused_when_no_worker_is_left(folder):
    (folder / "main.py").write_text(HELD + APP)
    with Server(folder, "run", *LOCAL, "--workers", "2").started() as server:
        living = server.pids(2)
        (folder / "broken").touch()
        for victim in living:
            os.kill(victim, signal.SIGKILL)
        until(lambda: refused(server.port), "nobody listens")
        (folder / "broken").unlink()
        until(server.answers, "a worker at last")
        assert len(server.pids(2)) == 2


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_blocked_worker_keeps_no_connection_waiting(folder, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    (folder / "main.py").write_text(BLOCKING)
    arguments = ("run", *LOCAL, "--workers", "2", "--loop", loop)
    with Server(folder, *arguments).started() as server:
        server.pids(2)
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as stuck:
            stuck.sendall(b"GET /block HTTP/1.1\r\nhost: x\r\n\r\n")
            until((folder / "blocked").exists, "a blocked loop")
            assert len({server.get("/pid") for _ in range(30)}) == 1
            (folder / "go").touch()
            assert b"200 OK" in stuck.recv(4096)


def share_of(server, path, count):
    """How many of so many kept connections, made one after the other, each server got."""
    got = Counter()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
            stack.enter_context(contextlib.closing(connection))
            connection.request("GET", path)
            got[connection.getresponse().read()] += 1
    return got


def test_workers_share_connections(folder):
    (folder / "main.py").write_text(BLOCKING)
    with Server(folder, "run", *LOCAL, "--workers", "3", "--no-access-log").started() as server:
        server.pids(3)
        got = share_of(server, "/pid", 90)
    # 30 each on a quiet machine; the kernel alone would give nearly all to one.
    assert len(got) == 3, got
    assert min(got.values()) >= 6, got


def test_threads_share_connections(folder):
    (folder / "main.py").write_text(BLOCKING)
    with Server(folder, "run", *LOCAL, "--threads", "3", "--no-access-log").started() as server:
        until(lambda: len(share_of(server, "/thread", 30)) == 3, "all threads")
        got = share_of(server, "/thread", 90)
    assert min(got.values()) >= 6, got


def test_threads_end_what_is_in_flight(folder):
    """One that has nothing any more does not cut off the others."""
    with Server(folder, "run", *LOCAL, "--threads", "2").started() as server:
        with contextlib.ExitStack() as stack:
            clients = []
            for number in range(8):
                client = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
                stack.enter_context(client)
                client.sendall(b"GET /sleep%d HTTP/1.1\r\nhost: x\r\n\r\n" % (1 + number // 2))
                clients.append(client)
            time.sleep(0.5)
            server.send(signal.SIGTERM)
            for client in clients:
                assert b"".join(iter(lambda c=client: c.recv(4096), b"")).endswith(b"one")
        assert server.ended() == 0


# -- Nobody listens before the application is ready


@pytest.mark.parametrize(
    "more", [(), ("--workers", "2"), ("--reload",), ("--threads", "2")], ids=lambda more: str(more)
)
def test_port_opens_when_the_application_is_ready(folder, more):
    (folder / "main.py").write_text(HELD + APP)
    (folder / "hold").touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ("run", "--host", "127.0.0.1", "--port", str(port), *more)
    with Server(folder, *arguments) as server:
        until(lambda: list(folder.glob("importing-*")), "an import")
        for _ in range(10):
            assert refused(port)
            time.sleep(0.02)
        (folder / "hold").unlink()
        server.port = port
        assert until(server.answers, "an answer") == "one"


def test_unix_socket_opens_when_the_application_is_ready(folder):
    (folder / "main.py").write_text(HELD + APP)
    (folder / "hold").touch()
    path = str(folder / "socket")

    def connects():
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
            except ConnectionRefusedError:
                return False
            return True

    with Server(folder, "run", "--uds", path) as server:
        until(lambda: list(folder.glob("importing-*")), "an import")
        assert not connects()
        code, output = run(folder, "run", "--uds", path)
        assert (code, output) == (
            1,
            f"Error: A server is starting on {path} already: choose another path with --uds (TURBOAPI_UDS).\n",
        )
        (folder / "hold").unlink()
        server.saw("Listening on unix:")
        assert connects()


# -- Workers that do not answer

# Long enough for a healthy worker of a loaded machine.
SILENCE = f"{patience.seconds(1):.1f}"


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_blocked_worker_is_replaced(folder, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    (folder / "main.py").write_text(BLOCKING)
    arguments = ("run", *LOCAL, "--workers", "2", "--loop", loop, "--timeout-worker", SILENCE)
    with Server(folder, *arguments).started() as server:
        before = server.pids(2)
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as stuck:
            stuck.sendall(b"GET /block HTTP/1.1\r\nhost: x\r\n\r\n")
            until(lambda: any(map(gone, before)), "the end of the blocked one")
        victim, other = sorted(before, key=gone, reverse=True)
        assert server.pids(2) - before
        assert not gone(other)
    assert re.search(rf"Process {victim} has not answered for .* It is at\n.*Thread ", server.log)
    assert re.search(r'File ".*main\.py", line \d+ in app\n', server.log)
    assert f"(process {victim}) was ended by SIGKILL; starting another" in server.log


@pytest.mark.slow
def test_a_process_with_a_blocked_thread_is_replaced(folder):
    (folder / "main.py").write_text(BLOCKING)
    arguments = ("run", *LOCAL, "--workers", "2", "--threads", "2", "--timeout-worker", SILENCE)
    with Server(folder, *arguments).started() as server:
        before = server.pids(2)
        for _ in range(2):  # one of them is not in a process's main thread, or both are
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as stuck:
                stuck.sendall(b"GET /block HTTP/1.1\r\nhost: x\r\n\r\n")
                until((folder / "blocked").exists, "a blocked loop")
                (folder / "blocked").unlink()
        until(lambda: any(map(gone, before)), "the end of a blocked one")
        server.pids(2)


@pytest.mark.slow
def test_a_stopped_worker_stays(folder):
    arguments = ("run", *LOCAL, "--workers", "2", "--timeout-worker", SILENCE)
    with Server(folder, *arguments).started() as server:
        before = server.pids(2)
        victim = min(before)
        os.kill(victim, signal.SIGSTOP)
        server.saw(f"Process {victim} does not answer, but is stopped or has a debugger: it stays")
        os.kill(victim, signal.SIGCONT)
        assert server.pids(2) == before


@pytest.mark.slow
def test_workers_stay_when_all_were_suspended(folder):
    arguments = ("run", *LOCAL, "--workers", "2", "--timeout-worker", SILENCE)
    with Server(folder, *arguments).started() as server:
        before = server.pids(2)
        everybody = [*before, server.process.pid]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(float(SILENCE) + 1)
        for pid in reversed(everybody):  # the supervisor first
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.05)
        assert server.pids(2) == before
        assert "does not answer" not in server.log
        assert "has not answered" not in server.log


def test_applications_children_inherit_nothing(folder):
    (folder / "main.py").write_text(
        APP.replace(
            'BODY = "one"',
            "import subprocess, sys\n"
            "BODY = subprocess.run([sys.executable, '-c', \"import os; print(sorted(os.listdir("
            "'/proc/self/fd'), key=int)[3:])\"], close_fds=False, stdout=-1, text=True).stdout",
        )
    )
    with Server(folder, "run", *LOCAL, "--workers", "2").started() as server:
        # One is that of listdir() itself.
        assert server.get().count(",") == 0, server.get()
