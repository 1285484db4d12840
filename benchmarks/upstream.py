"""Count the user-mode instructions of handlers that ask another server over asyncio's sockets.

    python benchmarks/upstream.py [--loops turboapi,asyncio,uvloop] [--cases redis_streams,...]

It serves apps/upstream_app.py with the interpreter that runs this program under callgrind, and
prints instructions per request: they repeat to about 1 % on a busy machine. The kernel's work is
not counted. Needed are valgrind, the servers of the cases (redis-server, PostgreSQL) and their
clients (redis, asyncpg, httpx); cases that lack something are skipped.
"""

import argparse
import contextlib
import glob
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.services import Missing, postgres, process, redis

HERE = Path(__file__).resolve().parent
WARM_UP = 200


class Skipped(Exception):
    """A client library is not installed, or a handler fails."""


@contextlib.contextmanager
def echo(folder: str) -> Iterator[str]:
    """Run a thread that sends back what it gets; yield the path of its socket."""
    listener = socket.socket(socket.AF_UNIX)
    path = f"{folder}/echo"
    listener.bind(path)
    listener.listen(100)

    def serve() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    sock: socket.socket = key.fileobj  # type: ignore[assignment]
                    if sock is listener:
                        selector.register(listener.accept()[0], selectors.EVENT_READ)
                        continue
                    with contextlib.suppress(OSError):
                        data = sock.recv(65536)
                        if data:
                            sock.sendall(data)
                            continue
                    selector.unregister(sock)
                    sock.close()

    threading.Thread(target=serve, daemon=True).start()
    yield path


@contextlib.contextmanager
def http(folder: str) -> Iterator[str]:
    """Run an HTTP server in a process of its own; yield the URL of a small JSON document."""
    port = free_port()
    with process(
        *(sys.executable, "-m", "turboapi", "run", "upstream_app:app", "--app-dir"),
        *(str(HERE / "apps"), "--port", str(port), "--no-access-log"),
        *("--timeout-idle", "600"),  # a client under callgrind takes its time
    ) as server:
        wait_for_port(port, server)
        yield f"http://127.0.0.1:{port}/none"


CASES = {
    "none": ("/none", contextlib.nullcontext),
    "redis_protocol": ("/redis/protocol", redis),
    "redis_streams": ("/redis/streams", redis),
    "redis_py": ("/redis/redis-py", redis),
    "echo_streams": ("/echo/streams", echo),
    "asyncpg": ("/asyncpg", postgres),
    "httpx": ("/httpx", http),
}


def free_port() -> int:
    """Return the number of a port that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server listens at the port, however long its start takes."""
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise Skipped(f"a server ended with {server.returncode} before it listened")


def load(port: int, target: str, count: int, options: argparse.Namespace) -> int:
    """Send so many requests over keep-alive connections; return how many were answered with 200."""
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    until = time.monotonic() + options.limit
    sent = done = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(min(options.connections, count)):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(request)
            sent += 1
            selector.register(sock, selectors.EVENT_READ, bytearray())
        while selector.get_map():
            for key, _ in selector.select(1):
                sock, buffer = key.fileobj, key.data  # type: ignore[assignment]
                try:
                    data = sock.recv(1 << 16)
                except ConnectionError:
                    data = b""
                buffer += data
                head, _, body = bytes(buffer).partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                if data and (length is None or len(body) < int(length[1])):
                    continue
                done += head.startswith(b"HTTP/1.1 200")
                buffer.clear()
                if data and sent < count and time.monotonic() < until:
                    sock.sendall(request)
                    sent += 1
                else:
                    selector.unregister(sock)
                    sock.close()
    return done


def measure(loop: str, case: str, options: argparse.Namespace) -> float:
    """Return the instructions per request of one case on one loop."""
    target, upstream = CASES[case]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        where = stack.enter_context(upstream(folder) if upstream in SERVERS else upstream(""))
        port = free_port()
        out = f"{folder}/callgrind"
        server = subprocess.Popen(
            [
                *("valgrind", "--tool=callgrind", "--instr-atstart=no"),
                *(f"--callgrind-out-file={out}", sys.executable, "-m", "turboapi", "run"),
                *("upstream_app:app", "--app-dir", str(HERE / "apps"), "--port", str(port)),
                *("--no-access-log", "--log-level", "warning", "--loop", loop),
            ],
            env={**os.environ, "UPSTREAM": where},
            stdout=subprocess.DEVNULL,
            stderr=None if options.verbose else subprocess.DEVNULL,
            start_new_session=True,
        )

        def control(*args: str) -> None:
            subprocess.run(
                ["callgrind_control", *args, str(server.pid)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )

        try:
            wait_for_port(port, server)
            if load(port, target, WARM_UP, options) == 0:
                raise Skipped("the client library, or an error in it")
            control("-z")
            control("-i", "on")
            done = load(port, target, options.count, options)
            control("-i", "off")
            for name in glob.glob(f"{out}*"):
                os.unlink(name)
            control("-d")
            time.sleep(0.5)
            written = [Path(name).read_text() for name in glob.glob(f"{out}*")]
            if options.keep:
                for number, text in enumerate(written):
                    Path(options.keep, f"{case}.{loop}.{number}").write_text(text)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    totals = re.findall(r"^(?:totals|summary): (\d+)", "\n".join(written), re.MULTILINE)
    return max(map(int, totals), default=0) / max(done, 1)


SERVERS = (redis, echo, http, postgres)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--loops", default="turboapi,uvloop,asyncio")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--count", type=int, default=800, help="requests of a case")
    parser.add_argument("--connections", type=int, default=32, help="which ask at the same time")
    parser.add_argument("--limit", type=float, default=60, help="seconds after which it ends")
    parser.add_argument("--keep", metavar="FOLDER", help="where to keep callgrind's files")
    parser.add_argument("--verbose", action="store_true", help="show what the server reports")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is needed")
    loops = options.loops.split(",")
    print(f"{'':16}" + "".join(f"{loop:>12}" for loop in loops))
    for case in options.cases.split(","):
        line = f"{case:16}"
        for loop in loops:
            try:
                line += f"{measure(loop, case, options) / 1000:11.1f}k"
            except (Skipped, Missing) as why:
                line += f"  skipped: {why}"
                break
        print(line, flush=True)


if __name__ == "__main__":
    main()
