#!/usr/bin/env python3
"""Compare servers over TLS and HTTP/2, and with compressed responses.

    python benchmarks/protocols.py                    # five rounds of 5 seconds, medians
    python benchmarks/protocols.py --quick            # one round of a second: does it work?
    python benchmarks/protocols.py --rows h2-100,gzip --servers turboapi,granian

| row | what is sent |
|---|---|
| `tls` | HTTP/1.1 over TLS, 64 connections that stay open |
| `handshakes` | new connections over TLS, full handshakes, 8 at a time |
| `h1` | HTTP/1.1 in the clear, 64 connections: what the next ones are compared to |
| `h2-1`, `h2-10`, `h2-100` | HTTP/2 over TLS, so many streams on 16, 16 and 4 connections |
| `gzip`, `br` | 50 KB of JSON over HTTP/1.1 in the clear, packed each time (level 5 and 4) |

The load comes from h2load (nghttp2-client) and `openssl s_time`. Each server has one worker.
TurboAPI runs an endpoint of its framework, others a bare ASGI application, packed by Starlette's
GZipMiddleware and brotli-asgi; nginx sends files (the floor, and no peer). The rows of a round
follow each other, so that what disturbs one disturbs all. What is not installed, or does not speak
what a row is about, is named with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness import install, options
from harness.measure import ServerFailed, cpu_seconds, raise_limits, serve
from harness.servers import APPS, HERE, Server, Setup

PEERS = ["starlette", "brotli-asgi", "uvicorn[standard]", "zttp", "granian", "hypercorn", "h2corn"]
PEERS += ["peregrine-server", "matplotlib"]
PLAIN, TLS = "plain", "tls"


@dataclass(frozen=True)
class Row:
    """`arguments` are h2load's; none: handshakes are counted."""

    key: str
    unit: str
    over: str = TLS
    arguments: tuple[str, ...] = ()
    path: str = "/"
    pack: str = ""
    protocol: str = "http/1.1"


ROWS = [
    Row("h1", "requests/s", PLAIN, ("--h1", "-c", "64")),
    Row("tls", "requests/s", TLS, ("--h1", "-c", "64")),
    Row("handshakes", "handshakes/s"),
    Row("h2-1", "requests/s", TLS, ("-c", "16", "-m", "1"), protocol="h2"),
    Row("h2-10", "requests/s", TLS, ("-c", "16", "-m", "10"), protocol="h2"),
    Row("h2-100", "requests/s", TLS, ("-c", "4", "-m", "100"), protocol="h2"),
    Row("gzip", "requests/s", PLAIN, ("--h1", "-c", "64"), "/large", "gzip"),
    Row("br", "requests/s", PLAIN, ("--h1", "-c", "64"), "/large", "br"),
]


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate for localhost."""

    folder: Path

    @property
    def certificate(self) -> str:
        """Return the path of the chain."""
        return str(self.folder / "certificate.pem")

    @property
    def key(self) -> str:
        """Return the path of the key."""
        return str(self.folder / "key.pem")

    def make(self) -> None:
        """Let openssl make them: an elliptic curve, as is usual."""
        command = [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", self.key),
            *("-out", self.certificate, "-addext", "subjectAltName=DNS:localhost"),
        ]
        subprocess.run(command, check=True, capture_output=True)


# -- servers: how each is started for a row --------------------------------------------------------

Start = Callable[[Setup, Row, Certificate, int], list[str]]


def turboapi(setup: Setup, row: Row, tls: Certificate, port: int) -> list[str]:
    """Return the project's own server."""
    command = [
        *(setup.python, "-m", "turboapi", "run", "protocols_app:app", "--app-dir", str(APPS)),
        *("--port", str(port), "--no-access-log", "--log-level", "warning", *setup.turboapi_args),
    ]
    if row.pack:
        command += ["--compress", f"{row.pack}:{5 if row.pack == 'gzip' else 4}"]
    if row.over == TLS:
        command += ["--ssl-certfile", tls.certificate, "--ssl-keyfile", tls.key]
    return command


def uvicorn(setup: Setup, row: Row, tls: Certificate, port: int) -> list[str]:
    """Return uvicorn: with zttp for HTTP/2, and else with httptools."""
    command = [
        *(setup.peer_python, "-m", "uvicorn", "protocols_app:app", "--app-dir", str(APPS)),
        *("--port", str(port), "--no-access-log", "--log-level", "warning"),
    ]
    if row.protocol == "h2":
        command += ["--http", "zttp", "--http2"]
    if row.over == TLS:
        command += ["--ssl-certfile", tls.certificate, "--ssl-keyfile", tls.key]
    return command


def granian(setup: Setup, row: Row, tls: Certificate, port: int) -> list[str]:
    """Return granian."""
    command = [
        *(setup.peer_python, "-m", "granian", "--interface", "asgi", "--port", str(port)),
        *("--workers", "1", "--no-access-log", "--log-level", "warning", "protocols_app:app"),
    ]
    if row.over == TLS:
        command += ["--ssl-certificate", tls.certificate, "--ssl-keyfile", tls.key]
    return command


def hypercorn(setup: Setup, row: Row, tls: Certificate, port: int) -> list[str]:
    """Return hypercorn, on uvloop."""
    command = [
        *(setup.peer_python, "-m", "hypercorn", "-b", f"127.0.0.1:{port}", "-k", "uvloop"),
        *("-w", "1", "--log-level", "warning", "protocols_app:app"),
    ]
    if row.over == TLS:
        command += ["--certfile", tls.certificate, "--keyfile", tls.key]
    return command


def h2corn(setup: Setup, row: Row, tls: Certificate, port: int) -> list[str]:
    """Return h2corn."""
    command = [
        *(str(setup.peers / "bin" / "h2corn"), "--app-dir", str(APPS), "--port", str(port)),
        *("--host", "127.0.0.1", "protocols_app:app"),
    ]
    if row.over == TLS:
        command += ["--certfile", tls.certificate, "--keyfile", tls.key]
    return command


def peregrine(setup: Setup, row: Row, tls: Certificate, port: int) -> list[str]:
    """Return peregrine-server."""
    command = [
        *(str(setup.peers / "bin" / "peregrine"), "--port", str(port), "--workers", "1"),
        *("--python-path", str(APPS)),
    ]
    if row.over == TLS:
        command += ["--tls-cert", tls.certificate, "--tls-key", tls.key]
    return [*command, "protocols_app:app"]


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  gzip {gzip}; gzip_comp_level 5; gzip_types application/json;
  server {{
    ssl_protocols TLSv1.2 TLSv1.3;
    listen 127.0.0.1:{port}{tls}; ssl_certificate {certificate}; ssl_certificate_key {key};
    root {folder}; index small.json; location = /large {{ try_files /large.json =404; }}
  }}
}}
"""


def nginx(_setup: Setup, row: Row, tls: Certificate, port: int) -> list[str]:
    """Return nginx with files of the same content."""
    from apps import protocols_app  # lazy: it reads the environment

    text = {"small.json": protocols_app.SMALL, "large.json": protocols_app.LARGE}
    for name, value in text.items():
        (tls.folder / name).write_text(json.dumps(value, separators=(",", ":")))
        (tls.folder / name).chmod(0o644)
    tls.folder.chmod(0o755)
    config = tls.folder / "nginx.conf"
    config.write_text(
        NGINX.format(
            folder=tls.folder,
            port=port,
            tls=" ssl http2" if row.over == TLS else "",
            gzip="on" if row.pack == "gzip" else "off",
            certificate=tls.certificate,
            key=tls.key,
        )
    )
    return ["nginx", "-c", str(config), "-e", "stderr"]


@dataclass(frozen=True)
class Contender:
    """`needs`: what must be there; `lacks`: rows that it has not, and why."""

    title: str
    start: Start
    needs: str = ""
    lacks: dict[str, str] = field(default_factory=dict)


CONTENDERS = {
    "nginx": Contender("nginx, files (the floor)", nginx, lacks={"br": "no brotli in nginx"}),
    "turboapi": Contender("TurboAPI", turboapi),
    "granian": Contender("granian", granian, "granian"),
    "uvicorn": Contender("uvicorn", uvicorn, "uvicorn"),
    "hypercorn": Contender("hypercorn", hypercorn, "hypercorn"),
    "peregrine": Contender("peregrine-server", peregrine, "peregrine-server"),
    "h2corn": Contender("h2corn", h2corn, "h2corn"),
}


# -- measurements ----------------------------------------------------------------------------------


@dataclass
class Result:
    """Of one round; CPU time of the server in us for each."""

    rate: float
    cpu_us: float


def url(row: Row, port: int) -> str:
    """Return what is asked for."""
    return f"{'https' if row.over == TLS else 'http'}://localhost:{port}{row.path}"


def check(row: Row, port: int) -> None:
    """Ask once, and look at the answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    made: http.client.HTTPConnection
    if row.over == TLS:
        made = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
    else:
        made = http.client.HTTPConnection("localhost", port, timeout=20)
    with contextlib.closing(made):
        made.request("GET", row.path, headers={"accept-encoding": row.pack or "identity"})
        response = made.getresponse()
        body = response.read()
    coding = response.headers.get("content-encoding", "")
    if response.status != 200 or coding != row.pack:
        raise ServerFailed(f"answers {response.status} with content-encoding {coding or 'none'}")
    if row.pack != "br" and b'"' not in (gzip.decompress(body) if row.pack else body):
        raise ServerFailed("the answer is not what it should be")


def load(row: Row, port: int, seconds: float, cpus: set[int]) -> tuple[float, int]:
    """Return (rate, how many were answered)."""
    command = ["h2load", *row.arguments, "-D", f"{max(1, round(seconds))}", "-T", "20"]
    if row.pack:
        command += ["-H", f"accept-encoding: {row.pack}"]
    done = subprocess.run(
        [*command, url(row, port)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    counts = re.search(r"(\d+) done, .* (\d+) errored", done.stdout)
    # A status without a phrase is none to h2load; `check` has seen that it is 200.
    wrong = re.search(r"(\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    protocol = re.search(r"Application protocol: (\S+)", done.stdout)
    if rate is None or counts is None or wrong is None:
        raise ServerFailed(f"h2load: {(done.stderr or done.stdout).strip()[-200:]}")
    if row.over == TLS and (protocol is None or protocol[1] != row.protocol):
        raise ServerFailed(f"does not speak {row.protocol}")
    answered, errored = map(int, counts.groups())
    if not answered or errored or any(map(int, wrong.groups())):
        raise ServerFailed(f"{answered} answers, {errored} errors; {wrong[0]}")
    return float(rate[1]), answered


def handshakes(port: int, seconds: float, cpus: set[int]) -> tuple[float, int]:
    """Return (rate, how many)."""
    command = ["openssl", "s_time", "-connect", f"localhost:{port}", "-new"]
    begun = time.monotonic()
    running = [
        subprocess.Popen(
            [*command, "-time", str(max(1, round(seconds)))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        for _ in range(8)
    ]
    count = 0
    for process in running:
        text, _ = process.communicate()
        found = re.search(r"(\d+) connections in \d+ real seconds", text)
        count += int(found[1]) if found else 0
    if not count:
        raise ServerFailed("no handshake succeeded")
    return count / (time.monotonic() - begun), count


def measure(
    contender: Contender, row: Row, setup: Setup, tls: Certificate, seconds: float,
    cpus: tuple[set[int], set[int]],
) -> Result:  # fmt: skip
    """Start the server, warm it up and load it."""
    environ = {
        "BENCH_FRAMEWORK": "turboapi" if contender.start is turboapi else "asgi",
        "BENCH_PACK": row.pack,
    }
    server = Server(
        contender.title,
        contender.title,
        lambda setup, _variant, port: contender.start(setup, row, tls, port),
        [],
        env=environ,
    )
    with serve(server, setup, "", cpus[0]) as running:
        check(row, running.port)
        run: Callable[[float], tuple[float, int]]
        if row.arguments:
            run = lambda for_: load(row, running.port, for_, cpus[1])  # noqa: E731
        else:
            run = lambda for_: handshakes(running.port, for_, cpus[1])  # noqa: E731
        run(min(1.0, seconds))
        before = cpu_seconds(running.pid)
        rate, count = run(seconds)
        return Result(rate, 1e6 * (cpu_seconds(running.pid) - before) / count)


def rounds(
    args: argparse.Namespace, setup: Setup, rows: list[Row], keys: list[str]
) -> Iterator[tuple[str, str, Result | str]]:
    """Yield (row, contender, result or why there is none)."""
    cpus = options.pick_cpus(args)
    lost: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as name:
        tls = Certificate(Path(name))
        tls.make()
        for number in range(args.rounds):
            for row in rows:
                for key in keys:
                    contender = CONTENDERS[key]
                    if (row.key, key) in lost:
                        continue
                    install.say(f"round {number + 1}: {row.key}: {contender.title}")
                    why = contender.lacks.get(row.key, "")
                    try:
                        if why:
                            raise ServerFailed(why)
                        yield row.key, key, measure(contender, row, setup, tls, args.seconds, cpus)
                    except (ServerFailed, OSError, http.client.HTTPException) as error:
                        lost[row.key, key] = str(error)
                        yield row.key, key, str(error)


def table(rows: list[Row], keys: list[str], found: dict[tuple[str, str], list[Result]]) -> str:
    """Return the medians in Markdown: a rate, and CPU time for each in us."""
    lines = ["| | " + " | ".join(f"{row.key} ({row.unit})" for row in rows) + " |"]
    lines.append("|---|" + "---:|" * len(rows))
    for key in keys:
        cells = []
        for row in rows:
            results = found.get((row.key, key))
            if not results:
                cells.append("-")
                continue
            rate = statistics.median(result.rate for result in results)
            cpu = statistics.median(result.cpu_us for result in results)
            cells.append(f"{rate:,.0f} ({cpu:,.0f} us)")
        lines.append(f"| {CONTENDERS[key].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_common(parser, list(CONTENDERS))
    names = [row.key for row in ROWS]
    parser.add_argument("--rows", default=",".join(names), help="default: all of %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--quick", action="store_true", help="one round of a second")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds = 1, 1.0
    for tool, package in (("h2load", "nghttp2-client"), ("openssl", "openssl")):
        if shutil.which(tool) is None:
            sys.exit(f"benchmark: {tool} is missing: apt-get install {package}")
    raise_limits()
    args.peers = args.peers or HERE.parent / "build" / "bench" / "protocols-venv"
    setup = Setup(args.python, args.peers, args.peers, args.turboapi_args.split())
    keys = options.keys(args.servers, list(CONTENDERS), "server")
    rows = [row for row in ROWS if row.key in options.keys(args.rows, names, "row")]
    notes: list[str] = []
    if args.no_install:
        versions = install.versions(setup.peer_python, [name.partition("[")[0] for name in PEERS])
    else:
        versions, notes = install.install_peers(args.peers, args.python, PEERS)
    for key in list(keys):
        needs = CONTENDERS[key].needs
        if (needs and needs not in versions) or (key == "nginx" and shutil.which("nginx") is None):
            notes.append(f"{CONTENDERS[key].title}: not installed")
            keys.remove(key)
    found: dict[tuple[str, str], list[Result]] = {}
    for row, key, result in rounds(args, setup, rows, keys):
        if isinstance(result, str):
            notes.append(f"{CONTENDERS[key].title}, {row}: {result}")
        else:
            found.setdefault((row, key), []).append(result)
    text = table(rows, keys, found) + "".join(f"\n- {note}" for note in notes) + "\n"
    meta = {**options.machine(args), "versions": versions, "seconds": args.seconds}
    figures = [
        {"row": row, "server": key, "rates": [one.rate for one in results],
         "cpu_us": [one.cpu_us for one in results]}
        for (row, key), results in found.items()
    ]  # fmt: skip
    data = {"meta": meta, "results": figures, "notes": notes}
    options.write(args, setup, "protocols", data, text, HERE / "harness" / "protocols_plot.py")


if __name__ == "__main__":
    main()
