"""A browser: headless Chromium loads the example over TLS, and tells which protocol it spoke."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import patience
import pytest
from certificates import Authority
from h2_kit import BUILT
from server_kit import running

from turboapi import Response, WebSocket

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (apt-get install chromium)"),
    pytest.mark.skipif(not BUILT, reason="HTTP/2 was not built in: no nghttp2"),
]

# Loads the shop window, which loads its style and script, and opens a WebSocket; the title tells.
PAGE = """<!doctype html><title>waiting</title>
<iframe src="/" id="shop"></iframe><pre id="found">waiting</pre>
<script>
const loaded = new Promise(done => document.getElementById("shop").onload = done);
const echoed = new Promise(done => {
  const socket = new WebSocket(`wss://${location.host}/echo`);
  socket.onopen = () => socket.send("hello");
  socket.onmessage = event => done(event.data);
  socket.onerror = () => done("error");
});
Promise.all([loaded, echoed]).then(([_, echo]) => {
  const shop = document.getElementById("shop").contentWindow;
  const entries = [...performance.getEntries(), ...shop.performance.getEntries()];
  const seen = {};
  for (const entry of entries)
    if (entry.nextHopProtocol) seen[new URL(entry.name).pathname] = entry.nextHopProtocol;
  document.getElementById("found").textContent = JSON.stringify(
    {seen, echo, title: shop.document.title});
});
</script>"""


def make_app(folder):
    (folder / "images").mkdir()
    store = pytest.importorskip(
        "examples.store.app", reason="the example's packages are not installed"
    )
    settings = pytest.importorskip("examples.store.settings")
    app = store.create_app(settings.Settings(data=folder, secret="0" * 64))

    @app.get("/protocol")
    async def page():
        return Response(PAGE, media_type="text/html")

    @app.websocket("/echo")
    async def echo(socket: WebSocket):
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    return app


def chromium(folder, *arguments):
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--ignore-certificate-errors",
        f"--user-data-dir={folder / 'profile'}", *arguments,
    ]  # fmt: skip
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=patience.seconds(120)
    )


@pytest.mark.parametrize("http2", [True, False])
def test_chromium_loads_the_example(tmp_path, http2):
    certificate, key = Authority(tmp_path).issue("localhost")
    files = {"ssl_certfile": (certificate,), "ssl_keyfile": (key,)}
    app = make_app(tmp_path)
    with running(app, interface="turboapi", http2=http2, **files) as server:
        picture = tmp_path / "page.png"
        done = chromium(
            tmp_path,
            f"--screenshot={picture}",
            "--dump-dom",
            "--virtual-time-budget=20000",
            f"https://localhost:{server.address[1]}/protocol",
        )
        found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
        assert found, done.stderr[-2000:]
        told = json.loads(found[1])
    assert told["echo"] == "hello"
    assert told["title"] == "Turbo Store"
    assert set(told["seen"].values()) == {"h2" if http2 else "http/1.1"}
    assert {"/", "/protocol"} < set(told["seen"])
    assert Path(picture).stat().st_size > 1000
