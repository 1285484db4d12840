#!/usr/bin/env python3
"""Count user-mode instructions a request in the realistic benchmark's cases, with callgrind.

    python benchmarks/real/instructions.py [--cases row,...] [--servers turboapi,...]

They repeat to about 1 % on a busy machine. "alone" is what the client libraries take in a bare loop
without a server (alone.py). The kernel's work is not counted, and the chat is left out.
"""

from __future__ import annotations

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
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import install, measure
from harness.servers import DEFAULT_PYTHON, HERE, Server, Setup
from realistic import upstreams

from real.cases import BY_KEY as CASES
from real.cases import Case
from real.load import request_bytes
from real.servers import BY_KEY as SERVERS

COUNTED = ["turboapi", "turboapi-uvloop", "unchanged", "fastapi-uvicorn", "blacksheep", "litestar"]
ALONE = {"alone": "turboapi", "alone-uvloop": "uvloop"}
WARM_UP = 400


def ask(port: int, request: bytes, count: int, connections: int) -> None:
    """Send so many requests over keep-alive connections and read their answers."""
    sent = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(min(connections, count)):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(request)
            sent += 1
            selector.register(sock, selectors.EVENT_READ, bytearray())
        while selector.get_map():
            for key, _ in selector.select():
                sock, buffer = key.fileobj, key.data  # type: ignore[assignment]
                data = sock.recv(1 << 16)
                buffer += data
                head, _, body = bytes(buffer).partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                if data and (length is None or len(body) < int(length[1])):
                    continue
                if not head.startswith(b"HTTP/1.1 200"):
                    raise measure.ServerFailed(f"it answers {head[:40]!r}")
                buffer.clear()
                if sent < count:
                    sock.sendall(request)
                    sent += 1
                else:
                    selector.unregister(sock)
                    sock.close()


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until the server listens; valgrind is slow."""
    until = time.monotonic() + 400  # a busy machine
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.2)
    raise measure.ServerFailed("it does not listen")


def under_callgrind(command: list[str], out: str) -> list[str]:
    """Put callgrind before the interpreter, behind `env NAME=VALUE`."""
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    return [*command[:2], *valgrind, f"--callgrind-out-file={out}", *command[2:]]


class Counter:
    """Counts what a process executes while something is done."""

    def __init__(self, setup: Setup, options: argparse.Namespace) -> None:
        self.setup = setup
        self.options = options

    def run(
        self,
        name: str,
        command: list[str],
        env: dict[str, str],
        prepare: Callable[[subprocess.Popen[str]], None],
        work: Callable[[subprocess.Popen[str]], None],
    ) -> float:
        """Return the instructions per request of `work`."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            out = f"{folder}/callgrind"
            process = subprocess.Popen(
                under_callgrind(command, out),
                env={**os.environ, **env, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if self.options.verbose else subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )

            def control(*args: str) -> None:
                subprocess.run(
                    ["callgrind_control", *args, str(process.pid)],
                    capture_output=True,
                    check=False,
                )

            try:
                prepare(process)
                control("-z")
                control("-i", "on")
                work(process)
                control("-i", "off")
                for old in glob.glob(f"{out}*"):
                    os.unlink(old)
                control("-d")
                time.sleep(0.5)
                written = [Path(each).read_text() for each in glob.glob(f"{out}*")]
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self.options.keep:
            Path(self.options.keep).mkdir(exist_ok=True)
            for number, text in enumerate(written):
                Path(self.options.keep, f"{name}.{number}").write_text(text)
        totals = re.findall(r"^(?:totals|summary): (\d+)", "\n".join(written), re.MULTILINE)
        return max(map(int, totals), default=0) / self.options.count

    def server(self, server: Server, case: Case) -> float:
        """Return the instructions of a server for a request."""
        port = measure.free_port()
        request = request_bytes(case)

        def prepare(process: subprocess.Popen[str]) -> None:
            wait_for(port, process)
            measure.check_answer(case, port)
            ask(port, request, WARM_UP, case.connections)

        command = server.command(self.setup, case.variant, port)
        return self.run(
            f"{case.key}.{server.key}",
            command,
            server.env,
            prepare,
            lambda _process: ask(port, request, self.options.count, case.connections),
        )

    def alone(self, case: Case, loop: str) -> float:
        """Return those of the client libraries."""
        of = SERVERS["turboapi" if loop == "turboapi" else "fastapi-uvicorn"]
        env, python = of.command(self.setup, "plain", 0)[1:3]
        script = [str(HERE / "real" / "alone.py"), case.alone, "--loop", loop]

        def line(process: subprocess.Popen[str]) -> None:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise measure.ServerFailed("alone.py failed")

        def work(process: subprocess.Popen[str]) -> None:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            line(process)

        command = ["env", env, python, *script, "--count", str(self.options.count)]
        return self.run(f"{case.key}.alone.{loop}", command, of.env, line, work)


def main() -> None:
    """Count and print a line a case."""
    cases = [key for key, case in CASES.items() if case.kind == "http"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", default=",".join(cases))
    parser.add_argument("--servers", default=",".join([*ALONE, *COUNTED]))
    parser.add_argument("--count", type=int, default=600, help="requests of a case")
    parser.add_argument("--python", default=DEFAULT_PYTHON, help="interpreter that has turboapi")
    parser.add_argument("--peers", type=Path, default=HERE / ".peers", help="venv of the peers")
    parser.add_argument("--keep", metavar="FOLDER", help="where to keep callgrind's files")
    parser.add_argument("--verbose", action="store_true", help="show what the servers report")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is needed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with it
    columns = options.servers.split(",")
    print(f"{'':12}" + "".join(f"{column:>17}" for column in columns))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        setup = Setup(options.python, options.peers.absolute(), Path(folder), [])
        install.compile_programs(setup.build)
        with upstreams(setup, folder) as environment:
            os.environ.update(environment)
            counter = Counter(setup, options)
            for key in options.cases.split(","):
                print(f"{key:12}", end="", flush=True)
                for column in columns:
                    try:
                        if column in ALONE:
                            found = counter.alone(CASES[key], ALONE[column])
                        else:
                            found = counter.server(SERVERS[column], CASES[key])
                        print(f"{found / 1000:16.1f}k", end="", flush=True)
                    except measure.ServerFailed as error:
                        print(f"{key}, {column}: {error}", file=sys.stderr)
                        print(f"{'failed':>17}", end="", flush=True)
                print(flush=True)


if __name__ == "__main__":
    main()
