"""Run h2spec against the server: HTTP/2's conformance, in the clear and over TLS.

    scripts/h2spec.py [--tls|--plain]

h2spec is built with Go, into build/h2spec, when it is not there yet.  Exits with 0 when all tests
pass, with 77 where there is no Go (or no nghttp2), and says so.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "build" / "h2spec" / "h2spec"
PACKAGE = "github.com/summerwind/h2spec/cmd/h2spec@latest"
SKIPPED = 77

APP = """
from turboapi import FastAPI, Request

app = FastAPI()


@app.get("/")
async def index():
    return "hello"


@app.post("/")
async def echo(request: Request):
    return len(await request.body())
"""


def skip(why: str) -> None:
    print(f"h2spec: skipped: {why}", file=sys.stderr)
    raise SystemExit(SKIPPED)


def build() -> None:
    """Build h2spec unless it is there."""
    if TOOL.exists():
        return
    if shutil.which("go") is None:
        skip("there is no Go to build it with")
    TOOL.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "install", PACKAGE]
    environ = {**os.environ, "GOBIN": str(TOOL.parent)}
    made = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if made.returncode:
        skip(f"Go can't build it: {made.stderr.strip()[-200:]}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def run(folder: Path, *, tls: bool) -> bool:
    """Return whether all tests passed."""
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "critical"]
    if tls:
        certificate = folder / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", str(folder / "key.pem"), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        options += ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(folder / "key.pem")]
    server = subprocess.Popen(
        [sys.executable, "-m", "turboapi", "run", "app:app", *options], cwd=folder
    )
    try:
        wait_for(port)
        result = subprocess.run(
            [
                str(TOOL),
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-o",
                "5",
                *(["-t", "-k"] if tls else []),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    finally:
        server.terminate()
        server.wait(30)
    total = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", result.stdout)
    print(f"h2spec {'over TLS' if tls else 'in the clear'}: {total[0] if total else 'no result'}")
    good = total is not None and total[1] == total[2] and int(total[1]) > 100
    if not good:
        print(result.stdout[result.stdout.find("Failures:") :], result.stderr)
    return good


def wait_for(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("h2spec: the server does not listen")


def main() -> int:
    """Run it as the arguments say."""
    from turboapi import _core  # lazy: after the arguments

    if _core.LIBRARIES["nghttp2"] is None:
        skip("HTTP/2 was not built in: no nghttp2")
    build()
    ways = [tls for tls in (False, True) if ("--plain" if tls else "--tls") not in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "app.py").write_text(APP)
        passed = [run(folder, tls=tls) for tls in ways]  # both, whatever the first gives
        return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
