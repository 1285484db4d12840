"""The files of deploy/: they parse, agree with each other and with the server, and nginx serves."""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import patience
import pytest
import yaml
from ports import free_port

from turboapi.config import Config, settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GRACE = Config().timeout_graceful_shutdown


def options() -> set[str]:
    """Return every option of `turboapi run`."""
    found = {"--help", "--entrypoint", "--https"}
    for name, one in settings().items():
        option = name.replace("_", "-")
        found |= {f"--{option}", f"--no-{option}", *one.aliases}
    return found


def texts() -> list[Path]:
    files = [path for path in DEPLOY.iterdir() if path.is_file()]
    return [*files, ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_options_that_are_named_exist(path):
    """In every line that calls `turboapi run` or `turboapi dev`."""
    for line in path.read_text(encoding="utf-8").splitlines():
        for call in re.findall(r"turboapi (?:run|dev)\b[^`#]*", line):
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", call):
                assert option in options(), f"{line.strip()}: {option}"


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def test_what_the_dockerfile_copies_exists_and_what_it_runs_is_right():
    for sources in re.findall(r"^COPY (?!--from)(?:--chown=\w+ )?(.+) \S+$", dockerfile(), re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    command = json.loads(re.findall(r"^CMD (\[.*\])$", dockerfile(), re.M)[-1])
    assert command[:3] == ["turboapi", "run", "examples.store.app:app"]
    assert set(command[3::2]) <= options()
    setup = (ROOT / "scripts/setup.sh").read_text()
    headers = re.search(r"^packages=\((.*)\)$", setup, re.M)
    assert headers is not None
    for package in headers[1].split():
        assert re.search(rf"\s{re.escape(package)}\s", dockerfile()), f"{package} is not installed"


def test_compose_and_kubernetes_wait_for_the_server():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    shop = compose["services"]["shop"]
    assert int(shop["stop_grace_period"].removesuffix("s")) > GRACE
    assert (DEPLOY / shop["build"]["context"] / shop["build"]["dockerfile"]).is_file()
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > GRACE
    assert pod["metadata"]["labels"] == service["spec"]["selector"]
    container = pod["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port in ports.values():
        assert f"EXPOSE {port}\n" in dockerfile()
    environ = {each["name"]: each["value"] for each in container["env"]}
    assert environ["TURBOAPI_METRICS"] == f"0.0.0.0:{ports['metrics']}"
    for probe, path in (("readiness", "ready"), ("startup", "ready"), ("liveness", "live")):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert asked == {"path": f"/-/{path}", "port": "metrics"}
    assert f"--uid {pod['spec']['securityContext']['runAsUser']} " in dockerfile()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path):
    unit = tmp_path / "shop.service"
    text = (DEPLOY / "turboapi.service").read_text()
    unit.write_text(
        text.replace("/srv/shop/.venv/bin/turboapi", sys.executable)
        .replace("User=shop", "User=root")
        .replace("/srv/shop", str(tmp_path))
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=patience.seconds(30),
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "shop.service" in line]
    assert complaints == []


def test_the_unit_serves_where_the_proxies_look():
    unit = (DEPLOY / "turboapi.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.M))
    assert (settings["Type"], settings["NotifyAccess"]) == ("notify", "main")
    assert settings["ExecReload"].endswith("-HUP $MAINPID")
    path = re.search(r"--uds (/run/(\w+)/\S+)", unit)
    assert path is not None
    assert settings["RuntimeDirectory"] == path[2]
    assert "--uds-permissions 660 --forwarded-allow-ips unix" in unit
    for proxy in ("nginx.conf", "Caddyfile"):
        text = (DEPLOY / proxy).read_text()
        assert path[0] in text.splitlines()[0]
        assert text.count(path[1]) == 2


def test_every_file_is_shown_on_the_site():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    shown = re.findall(r"^<!-- show (\S+) -->$", pages, re.M)
    assert sorted(shown) == sorted(f"deploy/{path.name}" for path in DEPLOY.iterdir())


def test_nginx_closes_idle_connections_before_the_server():
    seconds = re.search(r"keepalive_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text())
    assert seconds is not None
    assert int(seconds[1]) < Config().timeout_idle


def get(port: int, path: str, **headers: str) -> str:
    """Ask until nginx and the server are there."""
    end = time.monotonic() + patience.seconds(5)
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.read().decode()
        except OSError as error:
            if time.monotonic() > end:
                raise
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(0.1)


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_passes_requests_and_who_asks(tmp_path):
    port, path = free_port(), tmp_path / "http.sock"
    (tmp_path / "main.py").write_text(
        "from turboapi import FastAPI, Request\n"
        "app = FastAPI()\n"
        "@app.get('/')\n"
        "async def root(request: Request):\n"
        "    return [request.client.host, str(request.url)]\n"
    )
    site = (DEPLOY / "nginx.conf").read_text()
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};")
    site = site.replace("/run/shop/http.sock", str(path))
    (tmp_path / "nginx.conf").write_text(
        f"user {getpass.getuser()}; daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {site} }}\n"
    )
    server = [sys.executable, "-m", "turboapi", "run", "main:app", "--uds", str(path)]
    with contextlib.ExitStack() as stack:
        for command in (
            [*server, "--uds-permissions", "660", "--forwarded-allow-ips", "unix"],
            ["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        ):
            process = stack.enter_context(subprocess.Popen(command, cwd=tmp_path))
            stack.callback(process.terminate)
        seen = ["127.0.0.1", f"http://127.0.0.1:{port}/"]
        assert json.loads(get(port, "/")) == seen
        forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
        assert json.loads(get(port, "/", **forged)) == seen
