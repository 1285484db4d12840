"""Serves the shop as `make run` does, on a free port, over a data folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[str]:
    port = free_port()
    environment = {**os.environ, "STORE_DATA": str(data), "STORE_ADMIN_PASSWORD": "open sesame"}
    log = (data / "server.log").open("w")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "turboapi",
            "run",
            "examples.store.app:app",
            "--app-dir",
            str(ROOT),
            "--port",
            str(port),
        ],
        env=environment,
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{url}/health", timeout=2)
                break
            except httpx.TransportError:
                if process.poll() is not None:
                    break
                time.sleep(0.05)
        else:
            pytest.fail("the shop did not start:\n" + (data / "server.log").read_text())
        if process.poll() is not None:
            pytest.fail("the shop ended at once:\n" + (data / "server.log").read_text())
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, (data / "server.log").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=10) as client:
        yield client


def log_in(client: httpx.Client, email: str, password: str) -> dict[str, str]:
    answer = client.post("/token", data={"username": email, "password": password})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
def admin(client: httpx.Client) -> dict[str, str]:
    return log_in(client, "admin@example.com", "open sesame")


@pytest.fixture
def customer(client: httpx.Client) -> dict[str, str]:
    email = f"customer-{time.time_ns()}@example.com"
    answer = client.post(
        "/users", json={"email": email, "password": "correct horse", "name": "Ann"}
    )
    assert answer.status_code == 201, answer.text
    return log_in(client, email, "correct horse")
