"""SIGUSR2: the program anew, beside the old one and then in its place."""

import contextlib
import json
import os
import re
import signal
import socket
import threading

import pytest
from cli_kit import APP, LOCAL, PATIENCE, Clients, Server, gone, until

from turboapi._serving import sockets
from turboapi._serving.handover import Handover
from turboapi.config import Config

QUIET = (*LOCAL, "--no-access-log")
MODES = [[], ["--workers", "2"]]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


class Programs:
    """The program that was started, and those that took over from it."""

    def __init__(self, server):
        self.server = server
        self.pid = server.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.pids():
            if not gone(pid):
                os.kill(pid, signal.SIGTERM)
        until(lambda: all(gone(pid) for pid in self.pids()), f"an end:\n{self.server.log}")

    def pids(self):
        found = re.findall(r"SIGUSR2: process (\d+) is to take over", self.server.log)
        return [self.server.process.pid, *map(int, found)]

    def upgrade(self):
        """Send the signal and return the old pid, once it is gone."""
        old, count = self.pid, len(self.pids())
        os.kill(old, signal.SIGUSR2)
        self.pid = until(lambda: self.pids()[count:], "a new program")[0]
        self.server.process.poll()
        until(lambda: self.server.process.poll() is not None and gone(old), self.server.log)
        return old


@pytest.mark.parametrize("mode", MODES)
def test_nobody_is_lost(folder, mode):
    with (
        Server(folder, "run", *QUIET, *mode).started() as server,
        Programs(server) as programs,
        Clients(server.port) as clients,
    ):
        for _ in range(3):
            programs.upgrade()
        assert server.process.returncode == 0
    assert clients.lost == []
    assert clients.answered > 10


@pytest.mark.parametrize("mode", MODES)
def test_what_is_in_flight_is_finished_and_what_is_new_is_served(folder, mode):
    with Server(folder, "run", *QUIET, *mode).started() as server, Programs(server) as programs:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
            client.sendall(b"GET /sleep3 HTTP/1.1\r\nhost: x\r\n\r\n")
            until(lambda: server.get() == "one", "the first program")
            (folder / "main.py").write_text(APP.replace('BODY = "one"', 'BODY = "second"'))
            old = programs.pid
            os.kill(old, signal.SIGUSR2)
            until(lambda: server.get() == "second", "the second program")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        programs.pid = programs.pids()[1]
        until(lambda: server.process.poll() == 0, "the old one's end")


@pytest.mark.parametrize("mode", MODES)
def test_a_program_that_does_not_start_changes_nothing(folder, mode):
    with Server(folder, "run", *QUIET, *mode, "--pid-file", "pid").started() as server:
        (folder / "main.py").write_text("raise RuntimeError('broken')\n")
        server.send(signal.SIGUSR2)
        server.saw("did not come to serve; this one goes on")
        assert server.get() == "one"
        assert (folder / "pid").read_text() == f"{server.process.pid}\n"
        (folder / "main.py").write_text(APP)
        with Programs(server) as programs:
            os.kill(server.process.pid, signal.SIGUSR2)
            until(lambda: server.process.poll() == 0, server.log)
            programs.pid = programs.pids()[-1]
            assert (folder / "pid").read_text() == f"{programs.pid}\n"
            assert server.get() == "one"
        assert not (folder / "pid").exists()


HOLD = """
import pathlib, time
pathlib.Path("starting").touch()
while pathlib.Path("hold").exists():
    time.sleep(0.02)
"""


@pytest.mark.parametrize("mode", [*MODES, ["--workers", "2", "--preload"]])
def test_a_stop_is_one_of_the_program_that_is_to_take_over_too(folder, mode):
    with Server(folder, "run", *QUIET, *mode).started() as server:
        (folder / "main.py").write_text(HOLD + APP)
        (folder / "hold").touch()
        server.send(signal.SIGUSR2)
        until((folder / "starting").exists, "the new program")
        with Programs(server) as programs:
            server.send(signal.SIGTERM)
            assert server.ended() == 0
            assert all(gone(pid) for pid in programs.pids())
        assert not re.search("did not come|has taken over|Traceback", server.log)


def test_one_that_comes_to_serve_during_the_stop_cuts_nothing_off(folder):
    with Server(folder, "run", *QUIET, "--workers", "2").started() as server:
        (folder / "main.py").write_text("import signal\n" + HOLD + APP)
        (folder / "hold").touch()
        server.send(signal.SIGUSR2)
        until((folder / "starting").exists, "the new program")
        answers = []
        client = threading.Thread(target=lambda: answers.append(server.get("/sleep3")))
        client.start()
        server.saw("SIGUSR2: process")
        until(lambda: server.get("/sleep0.5") == "one", "the other request in flight")
        server.send(signal.SIGTERM)
        (folder / "hold").unlink()
        client.join(PATIENCE)
        assert answers == ["one"]
        assert server.ended() == 0
        assert "at once" not in server.log.replace("ends at once", "")


@pytest.mark.parametrize("mode", MODES)
def test_unix_sockets_and_several_addresses(folder, mode):
    path = folder / "socket"
    options = ("--bind", f"unix:{path}", "--bind", "127.0.0.1:0", "--no-access-log")
    with Server(folder, "run", *options, *mode) as server, Programs(server) as programs:
        server.port = int(server.saw(r"Listening on unix:\S+ http://127.0.0.1:(\d+)")[1])
        until(server.answers, "an answer")
        inode = path.stat().st_ino
        programs.upgrade()
        assert server.get() == "one"
        assert path.stat().st_ino == inode
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.makefile("rb").read().endswith(b"one")
    assert not path.exists()


def test_after_a_reload_it_is_the_first_command_that_is_started(folder):
    with Server(folder, "run", *QUIET).started() as server, Programs(server) as programs:
        server.send(signal.SIGHUP)
        server.saw(f"Process {server.process.pid} is the supervisor of")
        programs.upgrade()
        assert server.get() == "one"


@pytest.mark.parametrize("mode", MODES)
def test_the_service_manager_hears_of_it(folder, mode):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE)
        name = str(folder / "notify")
        with (
            Server(folder, "run", *QUIET, *mode, NOTIFY_SOCKET=name).started() as server,
            Programs(server) as programs,
        ):
            assert manager.recv(1000).startswith(b"READY=1\n")
            programs.upgrade()
            heard = {manager.recv(1000).split(b"\nSTATUS")[0] for _ in range(2)}
            assert heard == {f"MAINPID={programs.pid}\nREADY=1".encode(), b"READY=1"}


@pytest.mark.parametrize("mode", MODES)
def test_the_new_program_feeds_the_watchdog(folder, mode):
    """systemd names the process from which it wants signs of life: the old program."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE)
        name = str(folder / "notify")
        (folder / "sitecustomize.py").write_text(
            "import os\n"
            "if os.environ.get('WATCHDOG_PID') == 'mine':\n"
            "    os.environ['WATCHDOG_PID'] = str(os.getpid())\n"
        )
        given = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "mine"}
        with (
            Server(
                folder, "run", *QUIET, *mode, PYTHONPATH=str(folder), **given
            ).started() as server,
            Programs(server) as programs,
        ):
            while manager.recv(1000) != b"WATCHDOG=1":
                pass
            programs.upgrade()
            manager.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # what the old one has said
                while manager.recv(1000):
                    pass
            manager.settimeout(PATIENCE)
            assert manager.recv(1000) == b"WATCHDOG=1"


def test_descriptors_of_a_handover_do_not_make_others_wait():
    with sockets.bind(Config(port=0)) as bound, socket.socket(fileno=os.dup(bound.fileno())) as own:
        bound.setblocking(False)  # of the open file that both share
        handover = Handover(Config(), [own])
        assert not os.get_blocking(bound.fileno())
        handover.stop()


def ask_metrics(path, page):
    """Status and text of a page of the metrics, on a connection of its own."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"GET %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % page)
        head, _, text = client.makefile("rb").read().partition(b"\r\n\r\n")
        return int(head.split()[1]), text.decode()


@pytest.mark.parametrize("mode", MODES)
def test_the_address_of_metrics_is_handed_over(folder, mode):
    path = folder / "metrics"
    options = ("--metrics", f"unix:{path}")
    with Server(folder, "run", *QUIET, *options, *mode).started() as server:
        # It is ready at every moment, whoever answers.
        seen, stop = set(), threading.Event()

        def look():
            while not stop.is_set():
                seen.add(ask_metrics(path, b"/-/ready")[0])

        with Programs(server) as programs:
            inode = path.stat().st_ino
            looking = threading.Thread(target=look)
            looking.start()
            try:
                for _ in range(2):
                    programs.upgrade()
            finally:
                stop.set()
                looking.join(PATIENCE)
            assert server.get() == "one"
            assert seen == {200}
            assert path.stat().st_ino == inode

            def workers():
                return json.loads(ask_metrics(path, b"/-/status.json")[1])["workers"]

            until(lambda: len(workers()) == (2 if mode else 1), "all workers")
            assert all(gone(pid) for pid in programs.pids()[:-1])
            assert "turboapi_requests_total" in ask_metrics(path, b"/metrics")[1]
    until(lambda: not path.exists(), "the end of the socket")


@pytest.mark.parametrize("mode", MODES)
def test_metrics_go_on_when_no_program_takes_over(folder, mode):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--metrics", f"localhost:{port}")
    with Server(folder, "run", *QUIET, *options, *mode).started() as server:
        (folder / "main.py").write_text("raise RuntimeError('broken')\n")
        server.send(signal.SIGUSR2)
        server.saw("did not come to serve; this one goes on")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"GET /-/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b" 200 OK" in client.makefile("rb").read()
        (folder / "main.py").write_text(APP)
        with Programs(server) as programs:
            programs.upgrade()
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                client.sendall(b"GET /-/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert b" 200 OK" in client.makefile("rb").read()
