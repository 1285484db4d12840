"""HTTP/2 over TLS: what ALPN chooses, and that requests go through it."""

import pytest
from certificates import Authority
from h2_kit import Closed, needs_h2
from server_kit import running
from tls_kit import ask, connected

from turboapi import FastAPI, Request

pytestmark = needs_h2

app = FastAPI()


@app.get("/")
async def index(request: Request):
    scope = request.scope
    return [scope["http_version"], scope["scheme"], "tls" in scope["extensions"]]


@app.post("/size")
async def size(request: Request):
    return len(await request.body())


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


def serving(authority, **settings):
    certificate, key = authority.issue("localhost")
    files = {"ssl_certfile": (certificate,), "ssl_keyfile": (key,)}
    return running(app, interface="turboapi", **files, **settings)


def test_h2_is_preferred(authority):
    with serving(authority) as server:
        for offered, chosen in (
            (["h2", "http/1.1"], "h2"),
            (["http/1.1", "h2"], "h2"),
            (["http/1.1"], "http/1.1"),
            (None, None),
        ):
            with connected(server, authority.context(alpn=offered)) as sock:
                assert sock.selected_alpn_protocol() == chosen


def test_it_can_be_turned_off(authority):
    with serving(authority, http2=False) as server:
        with connected(server, authority.context(alpn=["h2", "http/1.1"])) as sock:
            assert sock.selected_alpn_protocol() == "http/1.1"
            assert ask(sock) == b'["1.1","https",true]'
    with running(app, interface="turboapi", http2=False) as server, server.h2() as client:
        with pytest.raises((Closed, ConnectionError)):  # noqa: PT012
            client.open("GET", "/").head()


def test_requests_over_tls(authority):
    context = authority.context(alpn=["h2"])

    def wrap(sock):
        return context.wrap_socket(sock, server_hostname="localhost")

    with serving(authority) as server, server.h2(wrap=wrap) as client:
        many = [client.open("GET", "/", {"host": "localhost"}) for _ in range(50)]
        assert {exchange.read() for exchange in many} == {b'["2","https",true]'}
        body = bytes(1_000_000)
        assert client.open("POST", "/size", body=body).read() == b"1000000"


def test_a_preface_within_tls_needs_alpn(authority):
    with serving(authority) as server, connected(server, authority.context()) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert not sock.recv(100).startswith(b"\0\0")
