"""Autobahn's WebSocket test suite against the native server, on loopback.

    python scripts/autobahn.py --python2 /path/to/python2.7 [--cases '1.*' '13.*'] [--out FOLDER]
    python scripts/autobahn.py --tls ...           # wss, with a certificate of `turboapi cert`

Makes a virtual environment of Python 2.7 (which `wstest` needs; its interpreter must be there
already) in FOLDER, installs autobahntestsuite from PyPI, serves an echo application with this
interpreter's turboapi, runs the cases and prints a table of the results.  Exits with 1 when a case
failed.  All cases take about twenty minutes; FOLDER/reports/index.html has the details.
"""

from __future__ import annotations

import argparse
import collections
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

# What counts as passed; INFORMATIONAL: the suite only notes what happened.
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
AGENT = "turboapi"


async def app(scope, receive, send):
    """Send back what it gets."""
    assert scope["type"] == "websocket", "no lifespan"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def serve(port: int, pair: list[str]) -> int:
    """Serve `app` until a signal comes; over TLS if there are the files of a certificate."""
    from turboapi._serving.server import serve
    from turboapi.config import Config

    settings = dict(zip(("ssl_certfile", "ssl_keyfile"), pair, strict=False))
    config = Config(port=port, log_level="warning", access_log=False, interface="asgi", **settings)
    return serve(app, config)


def certificate(folder: Path) -> list[str]:
    """Make a certificate for this machine, and return its files."""
    made = folder / "certificate"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    command = [sys.executable, "-m", "turboapi", "cert", "localhost", "127.0.0.1", "--to", made]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [str(made / "cert.pem"), str(made / "key.pem")]


def wstest(python2: str, folder: Path) -> Path:
    """Install the suite unless it is there, and return its program."""
    program = folder / "python2" / "bin" / "wstest"
    if not program.exists():
        tool = folder / "tool"
        subprocess.run([sys.executable, "-m", "venv", tool], check=True)
        # The last releases of virtualenv that make environments of Python 2.7.
        pip = [tool / "bin" / "pip", "install", "-q"]
        subprocess.run([*pip, "virtualenv<20.22"], check=True)
        made = program.parents[1]
        subprocess.run([tool / "bin" / "virtualenv", "-q", "-p", python2, made], check=True)
        subprocess.run([made / "bin" / "pip", "install", "-q", "autobahntestsuite"], check=True)
    return program


def run(
    program: Path, folder: Path, cases: list[str], timeout: float, *, tls: bool
) -> dict[str, dict[str, str]]:
    """Run the cases and return the suite's index by number of the case."""
    pair = certificate(folder) if tls else []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reports = folder / "reports"
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": AGENT, "url": f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port), *pair])
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        command = [program, "-m", "fuzzingclient", "-s", "spec.json"]
        log = (folder / "wstest.log").open("w", encoding="utf-8")
        with log:
            subprocess.run(command, cwd=folder, stdout=log, stderr=log, timeout=timeout, check=True)
    finally:
        server.terminate()
        server.wait(30)
    found: dict[str, dict[str, str]] = json.loads((reports / "index.json").read_bytes())[AGENT]
    return found


def report(index: dict[str, dict[str, str]]) -> bool:
    """Print a table of the outcomes and return whether all passed."""
    table: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    bad = []
    for number, result in index.items():
        table[int(number.split(".")[0])][result["behavior"]] += 1
        if not {result["behavior"], result["behaviorClose"]} <= PASSED:
            bad.append(f"{number}: {result['behavior']}, close: {result['behaviorClose']}")
    for section, counts in sorted(table.items()):
        print(f"{section:3}  " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    print(f"{len(index)} cases, {len(bad)} failed")
    print("".join(f"  {line}\n" for line in sorted(bad)), end="")
    return bool(index) and not bad


def main() -> int:
    """Read the arguments and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python2", default="python2.7", help="interpreter for the suite")
    parser.add_argument("--cases", nargs="+", default=["*"])
    parser.add_argument("--out", type=Path, default=Path("build/autobahn"))
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for all cases")
    parser.add_argument("--tls", action="store_true", help="over TLS")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(int(arguments.serve[0]), arguments.serve[1:])
    folder = arguments.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    program = wstest(arguments.python2, folder)
    index = run(program, folder, arguments.cases, arguments.timeout, tls=arguments.tls)
    return 0 if report(index) else 1


if __name__ == "__main__":
    sys.exit(main())
