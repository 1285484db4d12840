"""What the access log and the metrics cost a request: instructions of the process, or CPU time.

    python benchmarks/observability.py --requests 2000              by callgrind (needs valgrind)
    python benchmarks/observability.py --time --requests 200000     by the clock of the processor

Serves `async def` with a path parameter over 16 keep-alive connections, the log into a pipe that is
read. Instructions are repeatable on a busy machine; times are not: run those when it is quiet. The
system's part is in the times only.
"""

import argparse
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


def cpu(pid):
    """Seconds of the processor, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return tuple(int(fields[n]) / os.sysconf("SC_CLK_TCK") for n in (11, 12))


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

    def microseconds(self, count):
        """Of the processor, for a request: user, system."""
        before = cpu(self.process.pid)
        load(self.port, count)
        after = cpu(self.process.pid)
        return tuple(1e6 * (b - a) / count for a, b in zip(before, after, strict=True))

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--time", action="store_true")
    parser.add_argument(
        "--repeat", type=int, default=5, help="of times, by turns: the least counts"
    )
    arguments = parser.parse_args()
    if not arguments.time and shutil.which("valgrind") is None:
        sys.exit("needs valgrind, or --time")
    found = {}
    for _ in range(arguments.repeat if arguments.time else 1):
        for name, options in VARIANTS.items():
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "main.py").write_text(APP)
                server = Server(folder, options, valgrind=not arguments.time)
                try:
                    if arguments.time:
                        took = server.microseconds(arguments.requests)
                        found[name] = min(found.get(name, took), took, key=sum)
                    else:
                        found[name] = (server.instructions(arguments.requests),)
                finally:
                    server.close()
    unit = "us (user, system)" if arguments.time else "instructions"
    base = sum(found["neither"])
    for name, parts in found.items():
        text = ", ".join(f"{part:.2f}" if arguments.time else f"{part:.0f}" for part in parts)
        print(f"{name:20} {text} {unit}   {sum(parts) - base:+.2f}")


if __name__ == "__main__":
    main()
