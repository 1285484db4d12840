"""What the access log and the metrics cost a request: instructions of the process, or CPU time.

    python benchmarks/observability.py --requests 2000              by callgrind (needs valgrind)
    python benchmarks/observability.py --time --seconds 60          by the scheduler's clock (Linux)

Serves `async def` with a path parameter, the log into a pipe that is read. Times are of bursts of
200 requests, 20 of them pipelined, on servers that run side by side: of each the 5th percentile,
which a busy machine hardly changes, with all threads of the process.
"""

import argparse
import contextlib
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
from pathlib import Path

APP = """
from turboapi import FastAPI
app = FastAPI()

@app.get("/items/{item_id}")
async def item(item_id: int):
    return {"item_id": item_id}
"""
QUIET = ("--no-access-log",)
VARIANTS = {
    "neither": QUIET,
    "metrics": (*QUIET, "--metrics", "unix:metrics.sock"),
    "log: uvicorn": (),
    "log: json": ("--access-log-format", "json"),
    "log: json, metrics": ("--access-log-format", "json", "--metrics", "unix:metrics.sock"),
}
CONNECTIONS = 16
BURST, PIPELINED = 200, 20
REQUEST = (
    b"GET /items/7?q=x HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\r\n"
)
END = b'{"item_id":7}'


def load(port, count):
    """Have `count` requests answered."""
    selector, sent, done = selectors.DefaultSelector(), 0, 0
    for _ in range(CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ)
        sock.sendall(REQUEST)
        sent += 1
    while done < count:
        for key, _ in selector.select():
            if END not in key.fileobj.recv(65536):
                continue
            done += 1
            if sent < count:
                sent += 1
                key.fileobj.sendall(REQUEST)
    for key in list(selector.get_map().values()):
        key.fileobj.close()


def cpu_ns(pid):
    """Time on a processor, of all threads."""
    total = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            total += int(file.read_text().split()[0])
    return total


class Server:
    """`turboapi run`, maybe under callgrind."""

    def __init__(self, folder, options, *, valgrind):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        command = [sys.executable, "-m", "turboapi", "run", "main:app", "--port", str(self.port)]
        if valgrind:
            out = f"--callgrind-out-file={folder}/out.%p"
            command = ["valgrind", "--tool=callgrind", out, *command]
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        self.folder = folder
        threading.Thread(target=self._drain, daemon=True).start()
        while True:
            try:
                load(self.port, 300)
                break
            except ConnectionRefusedError:
                time.sleep(0.5)

    def _drain(self):
        while os.read(self.process.stdout.fileno(), 1 << 16):
            pass

    def _control(self, what):
        subprocess.run(
            ["callgrind_control", what, str(self.process.pid)], check=True, capture_output=True
        )

    def instructions(self, count):
        """Of a request."""
        self._control("--zero")
        load(self.port, count)
        self._control("--dump")
        total = 0
        for file in Path(self.folder).glob("out.*"):
            found = re.search(r"^(?:summary|totals): (\d+)", file.read_text(errors="replace"), re.M)
            total = max(total, int(found[1]) if found else 0)
        return total / count

    def burst(self, sock):
        """Microseconds of CPU time for a request."""
        before = cpu_ns(self.process.pid)
        for _ in range(BURST // PIPELINED):
            sock.sendall(REQUEST * PIPELINED)
            answered = 0
            while answered < PIPELINED:
                answered += sock.recv(65536).count(END)
        return (cpu_ns(self.process.pid) - before) / BURST / 1e3

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def instructions(folder, count):
    """Print what callgrind counts, one server after the other."""
    base = None
    for name, options in VARIANTS.items():
        server = Server(Path(folder, name), options, valgrind=True)
        try:
            found = server.instructions(count)
        finally:
            server.close()
        base = found if base is None else base
        print(f"{name:20} {found:8.0f} instructions   {found - base:+.0f}")


def times(folder, seconds):
    """Print CPU times, of all servers by turns."""
    servers = {}
    bursts = {name: [] for name in VARIANTS}
    try:
        for name, options in VARIANTS.items():
            servers[name] = Server(Path(folder, name), options, valgrind=False)
        socks = {n: socket.create_connection(("127.0.0.1", s.port)) for n, s in servers.items()}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, server in servers.items():
                bursts[name].append(server.burst(socks[name]))
    finally:
        for server in servers.values():
            server.close()
    base = None
    for name, found in bursts.items():
        low = sorted(found)[len(found) // 20]
        base = low if base is None else base
        print(f"{name:20} {low:6.2f} us   {low - base:+.2f}   ({len(found)} bursts)")


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    if not arguments.time and shutil.which("valgrind") is None:
        sys.exit("needs valgrind, or --time")
    with tempfile.TemporaryDirectory() as folder:
        for name in VARIANTS:
            Path(folder, name).mkdir()
            Path(folder, name, "main.py").write_text(APP)
        if arguments.time:
            times(folder, arguments.seconds)
        else:
            instructions(folder, arguments.requests)


if __name__ == "__main__":
    main()
