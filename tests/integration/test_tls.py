"""TLS: what is agreed on, what is refused, and that HTTP goes over it as over a plain socket."""

import contextlib
import json
import random
import socket
import ssl
import struct
import threading
import time
from pathlib import Path

import patience
import pytest
from certificates import DAY, Authority
from server_kit import TIMEOUT, running, wait_for
from tls_kit import ask, connected, get
from websockets.sync.client import connect as websocket_connect

from turboapi import FastAPI, Request, WebSocket
from turboapi._core import TLS
from turboapi._serving import tls
from turboapi.config import Config, ConfigError
from turboapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

app = FastAPI()
big = random.Random(1).randbytes(3_000_000)


@app.get("/")
async def root():
    return PlainTextResponse("hello")


@app.get("/scope")
async def scope(request: Request):
    told = request.scope["extensions"]["tls"]
    return {"url": str(request.url), "scheme": request.scope["scheme"], "tls": told}


@app.get("/big")
async def download():
    return Response(big)


@app.get("/file")
async def file(request: Request):
    return FileResponse(request.query_params["path"])


@app.post("/echo")
async def echo(request: Request):
    return Response(await request.body())


@app.get("/stream")
async def stream():
    async def chunks():
        for i in range(200):
            yield f"{i}\n"

    return StreamingResponse(chunks(), headers={"content-length": str(690)})


@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(websocket.scope["scheme"])
    async for message in websocket.iter_bytes():
        await websocket.send_bytes(message)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("localhost")


def serving(pair, **settings):
    return running(app, ssl_certfile=(pair[0],), ssl_keyfile=(pair[1],), **settings)


@pytest.fixture(scope="module")
def server(pair):
    with serving(pair) as server:
        yield server


@pytest.fixture(scope="module")
def trusting(authority):
    return authority.context()


# -- HTTP over it


def test_requests_on_one_connection(server, trusting):
    with connected(server, trusting) as sock:
        for _ in range(3):
            assert ask(sock) == b"hello"


def test_pipelined_requests(server, trusting):
    with connected(server, trusting) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
        data = b""
        while data.count(b"hello") < 50:
            chunk = sock.recv(65536)
            assert chunk
            data += chunk


def test_the_scope_tells_of_it(server, trusting, pair):
    told = json.loads(get(server, trusting, "/scope"))
    with open(pair[0]) as f:  # noqa: PTH123
        certificate = f.read()
    assert told == {
        "url": "https://localhost/scope",
        "scheme": "https",
        "tls": {
            "server_cert": certificate,
            "client_cert_chain": [],
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": 0x0304,
            "cipher_suite": told["tls"]["cipher_suite"],
        },
    }
    assert told["tls"]["cipher_suite"] in (0x1301, 0x1302, 0x1303)


def test_a_plain_connection_has_no_such_extension():
    with running(app) as server:
        assert server.get("/scope")[0] == 500


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_bodies_both_ways(server, authority, version):
    context = authority.context(low=version, high=version)
    with connected(server, context) as sock:
        assert ask(sock, "/big") == big
        assert ask(sock, "/echo", method="POST", body=big) == big


def test_a_client_that_reads_slowly(server, trusting):
    with connected(server, trusting) as sock:
        sock.sendall(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n" * 3)
        time.sleep(0.3)  # our buffers and the kernel's are full
        for _ in range(3):
            # What is read may hold the next response, too: read to the byte.
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(1)
            left = len(big)
            got = bytearray()
            while left:
                chunk = sock.recv(min(left, 100_000))
                got += chunk
                left -= len(chunk)
            assert bytes(got) == big


def test_a_file(server, trusting, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(big)
    assert get(server, trusting, f"/file?path={path}") == big


def test_a_stream(server, trusting):
    assert get(server, trusting, "/stream") == b"".join(b"%d\n" % i for i in range(200))


def test_a_websocket(server, trusting):
    host, port = server.address
    url = f"wss://localhost:{port}/ws"
    with websocket_connect(url, ssl=trusting, sock=server.connect(), open_timeout=TIMEOUT) as ws:
        assert ws.recv(timeout=TIMEOUT) == "wss"
        for size in (0, 1, 20_000, 1_000_000):
            ws.send(big[:size])
            assert ws.recv(timeout=TIMEOUT) == big[:size]


def test_every_byte_by_itself(server, trusting):
    """Records arrive in pieces, in the handshake and after it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def run(function, *args):
        while True:
            try:
                return function(*args)
            except ssl.SSLWantReadError:
                flush()
                incoming.write(sock.recv(100))
            finally:
                flush()

    def flush():
        for byte in outgoing.read():
            sock.sendall(bytes([byte]))

    with server.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        run(client.do_handshake)
        run(client.write, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        data = b""
        while not data.endswith(b"hello"):
            data += run(client.read, 1000)


def test_the_end_is_told(server, trusting):
    """close_notify: so that the client knows that nothing was cut off (RFC 8446, 6.1)."""
    with connected(server, trusting, suppress_ragged_eofs=False) as sock:
        assert ask(sock, "/", "connection: close") == b"hello"
        assert sock.recv(1) == b""


def test_clients_that_disconnect_in_the_middle(server, trusting):
    for data in (
        b"",
        b"GET / HT",
        b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc",
    ):
        with server.connect() as plain:
            sock = trusting.wrap_socket(plain, server_hostname="localhost")
            sock.sendall(data)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        with server.connect() as plain:
            sock = trusting.wrap_socket(plain, server_hostname="localhost")
            sock.sendall(data)
            sock.close()
    assert get(server, trusting) == b"hello"
    wait_for(lambda: server.server.connections == 0)


# -- what is agreed on


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(None, None), (["http/1.1"], "http/1.1"), (["spdy/1", "http/1.1"], "http/1.1")],
)
def test_alpn(server, authority, offered, chosen):
    with connected(server, authority.context(alpn=offered)) as sock:
        assert sock.selected_alpn_protocol() == chosen
        assert ask(sock) == b"hello"


def refused(server, context, **options):
    with pytest.raises((ssl.SSLError, ConnectionError)) as failed:
        with connected(server, context, **options) as sock:
            ask(sock)
    return str(failed.value)


def test_a_client_whose_protocols_are_unknown_is_refused(server, authority):
    assert "no application protocol" in refused(server, authority.context(alpn=["spdy/1"])).lower()


def old_client(authority, version):
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(server, authority, version):
    assert "PROTOCOL_VERSION" in refused(server, old_client(authority, version))


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "ECDHE+AES+SHA1", "NULL-SHA256", "ADH"])
def test_weak_ciphers_are_refused(server, authority, ciphers):
    context = old_client(authority, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    assert "HANDSHAKE_FAILURE" in refused(server, context)


def test_a_cipher_of_one_s_own(pair, authority):
    with serving(pair, ssl_ciphers="ECDHE-ECDSA-AES256-GCM-SHA384") as server:
        context = authority.context(high=ssl.TLSVersion.TLSv1_2)
        with connected(server, context) as sock:
            assert sock.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_aes_with_128_bits_comes_first(server, authority, version):
    context = authority.context(low=version, high=version)
    offered = [cipher["name"] for cipher in context.get_ciphers()]
    assert "AES256" in offered[0].replace("_", "")  # so it is the server that chooses
    with connected(server, context) as sock:
        assert "AES128" in sock.cipher()[0].replace("_", "")


def test_tls_1_3_only(pair, authority):
    with serving(pair, ssl_min_version="1.3") as server:
        assert get(server, authority.context()) == b"hello"
        refused(server, authority.context(high=ssl.TLSVersion.TLSv1_2))


def test_a_client_that_speaks_no_tls_is_told(server):
    answer = server.exchange(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"https://")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head


def test_noise_is_refused_at_once(server, trusting):
    # Either is taken for a record that can't be one; 0x80...: a hello of SSL 2.
    for noise in (
        b"\x00" * 100,
        b"\x80\x2e\x01\x00\x02" + b"\xff" * 100,
        b"\x16\x03\x01\xff\xff\xff",
    ):
        # A reset: newer releases of OpenSSL leave what they did not need unread.
        with server.raw(noise) as sock, contextlib.suppress(ConnectionResetError):
            while sock.recv(1000):
                pass
    assert get(server, trusting) == b"hello"


def test_a_handshake_that_takes_too_long(pair):
    with (
        serving(pair, timeout_handshake=0.2, timeout_header=60) as server,
        server.connect() as sock,
    ):
        start = time.monotonic()
        assert sock.recv(1) == b""
        assert 0.15 < time.monotonic() - start < patience.seconds(5)


def test_the_time_of_the_head_begins_after_the_handshake(pair, trusting):
    with serving(pair, timeout_handshake=60, timeout_header=0.2) as server:
        with connected(server, trusting) as sock:
            assert sock.recv(1) == b""


# -- certificates by host


def test_the_named_host_chooses_the_certificate(authority):
    pairs = [authority.issue("one.example"), authority.issue("two.example", "*.three.example")]
    certfiles, keyfiles = zip(*pairs, strict=True)
    with running(app, ssl_certfile=certfiles, ssl_keyfile=keyfiles) as server:
        for host in ("one.example", "two.example", "x.three.example"):
            assert get(server, authority.context(), host=host) == b"hello"
        with pytest.raises(ssl.SSLCertVerificationError):
            get(server, authority.context(), host="four.example")
        context = authority.context()
        context.check_hostname = False
        for host, name in (("two.example", "two.example"), ("four.example", "one.example")):
            with connected(server, context, host) as sock:
                assert sock.getpeercert()["subject"][0][0][1] == name
        told = json.loads(get(server, authority.context(), "/scope", host="two.example"))
        with open(certfiles[1]) as f:  # noqa: PTH123
            assert told["tls"]["server_cert"] == f.read()


# -- clients' certificates


def test_a_client_s_certificate(pair, authority):
    client = authority.issue("alice", name="Alice")
    stranger = Authority(authority.folder, "stranger").issue("mallory")
    settings = {"ssl_ca_certs": authority.file, "ssl_cert_reqs": "required"}
    with serving(pair, **settings) as server:
        told = json.loads(get(server, authority.context(*client), "/scope"))["tls"]
        assert told["client_cert_name"] == "CN=Alice"
        with open(client[0]) as f:  # noqa: PTH123
            assert told["client_cert_chain"][0] == f.read()
        refused(server, authority.context())
        refused(server, authority.context(*stranger))


def test_an_optional_certificate(pair, authority):
    client = authority.issue("alice")
    stranger = Authority(authority.folder, "stranger").issue("mallory")
    with serving(pair, ssl_ca_certs=authority.file, ssl_cert_reqs=1) as server:
        assert get(server, authority.context()) == b"hello"
        assert get(server, authority.context(*client)) == b"hello"
        refused(server, authority.context(*stranger))


def test_a_certificate_that_was_revoked(pair, authority):
    alice, bob = authority.issue("alice"), authority.issue("bob")
    settings = {
        "ssl_ca_certs": authority.file,
        "ssl_cert_reqs": "required",
        "ssl_crl": authority.revoke(bob[0]),
    }
    with serving(pair, **settings) as server:
        assert get(server, authority.context(*alice)) == b"hello"
        refused(server, authority.context(*bob))


# -- sessions


def resumed(server, context, session):
    """Whether a session is resumed, and the session of the new connection."""
    with connected(server, context, session=session) as sock:
        assert ask(sock) == b"hello"
        return sock.session_reused, sock.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ticket_of_one_process_is_good_for_another(pair, authority, version):
    context = authority.context(low=version, high=version)
    secret = bytes(range(32))
    with serving(pair, ssl_ticket_secret=secret) as one:
        reused, session = resumed(one, context, None)
        assert not reused
        assert resumed(one, context, session)[0]
    with serving(pair, ssl_ticket_secret=secret) as two:
        assert resumed(two, context, session)[0]
    with serving(pair) as three:  # by a secret of its own
        assert not resumed(three, context, session)[0]


def test_a_session_ends_with_the_authorities_that_let_it_in(pair, authority):
    client = authority.issue("alice")
    context = authority.context(*client, high=ssl.TLSVersion.TLSv1_2)
    secret = bytes(range(32))
    settings = {"ssl_cert_reqs": "required", "ssl_ticket_secret": secret}
    with serving(pair, ssl_ca_certs=authority.file, **settings) as one:
        session = resumed(one, context, None)[1]
        assert resumed(one, context, session)[0]
    with serving(
        pair,
        ssl_ca_certs=authority.file,
        ssl_crl=authority.revoke(client[0]),
        **settings,
    ) as two:
        refused(two, context, session=session)


# -- new certificates


def copy(source, target):
    """Put the content of a file in the place of another, at once."""
    part = target.with_suffix(".part")
    part.write_bytes(Path(source).read_bytes())
    part.replace(target)


def test_a_certificate_that_is_renewed(authority, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tls, "LOOK", 0.05)
    monkeypatch.setattr(tls.Renewal.run, "__defaults__", (0.05,))
    old, new = authority.issue("localhost", name="old"), authority.issue("localhost", name="new")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(*pair):
        for source, target in zip(pair, files, strict=True):
            copy(source, target)

    def shown():
        with connected(server, authority.context()) as sock:
            return sock.getpeercert()["subject"][0][0][1]

    install(*old)
    with caplog.at_level("INFO"), serving([str(file) for file in files]) as server:
        with connected(server, authority.context()) as kept:
            assert ask(kept) == b"hello"
            assert shown() == "old"
            install(new[0], old[1])  # the second of the files is late
            wait_for(lambda: "is not used" in caplog.text)
            assert shown() == "old"
            install(*new)
            wait_for(lambda: shown() == "new")
            assert ask(kept) == b"hello"
    assert caplog.text.count("is not used") == 1
    assert "Reloaded " in caplog.text


def test_the_log_tells_of_certificates_that_end(authority, caplog):
    gone = authority.issue("localhost", name="gone", ends=-DAY)
    soon = authority.issue("localhost", name="soon", ends=3 * DAY)
    for pair, text in ((gone, "clients refuse it"), (soon, "ends on")):
        config = Config(ssl_certfile=pair[0], ssl_keyfile=pair[1])
        with caplog.at_level("WARNING"):
            tls.tell_ends(tls.make(config), config)
        assert text in caplog.text
        caplog.clear()


def test_failed_handshakes_are_in_the_log(pair, authority, caplog):
    with caplog.at_level("DEBUG"), serving(pair) as server:
        refused(server, authority.context(alpn=["spdy/1"]))
        wait_for(lambda: "the TLS handshake failed" in caplog.text)
    assert "127.0.0.1:" in caplog.text


# -- settings that can't be used


def fails(**settings):
    with pytest.raises(ConfigError) as failed:
        tls.make(Config(**settings))
    return failed.value


def test_files_that_can_t_be_used(authority, pair, tmp_path):
    nothing = str(tmp_path / "nothing.pem")
    text = tmp_path / "text.pem"
    text.write_text("this is text\n")
    text = str(text)
    other = authority.issue("other")
    locked = authority.issue("locked", password="open sesame")
    cases = [
        ({"ssl_certfile": nothing}, "ssl_certfile", "nothing.pem can't be read: No such file"),
        ({"ssl_certfile": text}, "ssl_certfile", "text.pem has no certificate"),
        ({"ssl_certfile": str(tmp_path)}, "ssl_certfile", "Is a directory"),
        ({"ssl_certfile": pair[0]}, "ssl_certfile", "; name its file with ssl_keyfile"),
        ({"ssl_certfile": pair[0], "ssl_keyfile": nothing}, "ssl_keyfile", "can't be read"),
        ({"ssl_certfile": pair[0], "ssl_keyfile": text}, "ssl_keyfile", "has no private key"),
        ({"ssl_certfile": pair[0], "ssl_keyfile": other[1]}, "ssl_keyfile", "is not that of"),
        (
            {"ssl_certfile": locked[0], "ssl_keyfile": locked[1]},
            "ssl_keyfile_password",
            "needs one",
        ),
        (
            {
                "ssl_certfile": locked[0],
                "ssl_keyfile": locked[1],
                "ssl_keyfile_password": "open wheat",
            },
            "ssl_keyfile_password",
            "is not that of the key",
        ),
        (
            {"ssl_certfile": pair[0], "ssl_keyfile": pair[1], "ssl_ciphers": "nonsense"},
            "ssl_ciphers",
            "nonsense",
        ),
        (
            {"ssl_certfile": pair[0], "ssl_keyfile": pair[1], "ssl_ca_certs": text},
            "ssl_ca_certs",
            "has no certificate",
        ),
        (
            {
                "ssl_certfile": pair[0],
                "ssl_keyfile": pair[1],
                "ssl_ca_certs": authority.file,
                "ssl_crl": text,
            },
            "ssl_crl",
            "has no revocation list",
        ),
    ]
    for settings, setting, why in cases:
        error = fails(**settings)
        assert error.setting == setting, str(error)
        assert why in error.reason


def test_a_start_waits_for_files_that_are_being_replaced(authority, tmp_path):
    old, new = authority.issue("localhost", name="old"), authority.issue("localhost", name="new")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    copy(new[0], files[0])
    copy(old[1], files[1])
    config = Config(ssl_certfile=str(files[0]), ssl_keyfile=str(files[1]))
    late = threading.Timer(0.3, copy, (new[1], files[1]))
    late.start()
    assert tls.make_at_start(config).expires(0)
    late.join()


def test_a_start_does_not_wait_for_files_that_stay_wrong(authority, monkeypatch):
    pair, other = authority.issue("localhost"), authority.issue("other")
    config = Config(ssl_certfile=pair[0], ssl_keyfile=other[1])
    begun = time.monotonic()
    with pytest.raises(ConfigError, match="is not that of"):
        tls.make_at_start(config)
    assert time.monotonic() - begun < patience.seconds(5)
    monkeypatch.setattr(tls, "_is_fresh", lambda file: False)
    make, tries = tls.make, []
    monkeypatch.setattr(tls, "make", lambda config: tries.append(config) or make(config))
    with pytest.raises(ConfigError, match="is not that of"):
        tls.make_at_start(config)
    assert tries == [config]


def test_an_application_is_shut_down_when_its_server_can_t_start(pair, monkeypatch, caplog):
    """A worker's files may have become wrong since its supervisor looked at them."""
    seen = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        seen.append("started")
        yield
        seen.append("shut down")

    def fail(config):
        raise ConfigError("ssl_certfile", "became wrong")

    monkeypatch.setattr(tls, "make_at_start", fail)
    settings = {"ssl_certfile": pair[0], "ssl_keyfile": pair[1], "interface": "turboapi"}
    with (
        pytest.raises(ConfigError, match="became wrong"),
        running(FastAPI(lifespan=lifespan), **settings),
    ):
        pass
    assert seen == ["started", "shut down"]
    assert "Traceback" not in caplog.text


def test_a_key_with_a_password_and_one_in_the_certificate_s_file(authority):
    locked = authority.issue("locked", password="open sesame")
    both = authority.issue("both", together=True)
    for settings in (
        {
            "ssl_certfile": locked[0],
            "ssl_keyfile": locked[1],
            "ssl_keyfile_password": "open sesame",
        },
        {"ssl_certfile": both},
    ):
        assert isinstance(tls.make(Config(**settings)), TLS)


def test_settings_at_odds():
    for settings, setting in (
        ({"ssl_certfile": "a", "ssl_keyfile": ("b", "c")}, "ssl_keyfile"),
        ({"ssl_keyfile": "b"}, "ssl_keyfile"),
        ({"ssl_ca_certs": "b"}, "ssl_ca_certs"),
        ({"ssl_certfile": "a", "ssl_cert_reqs": "required"}, "ssl_ca_certs"),
        ({"ssl_cert_reqs": "required"}, "ssl_cert_reqs"),
        ({"ssl_certfile": "a", "ssl_cert_reqs": 3}, "ssl_cert_reqs"),
        ({"ssl_certfile": "a", "ssl_min_version": "1.1"}, "ssl_min_version"),
        ({"ssl_certfile": "a", "ssl_ticket_secret": "00"}, "ssl_ticket_secret"),
    ):
        with pytest.raises(ConfigError) as failed:
            Config(**settings)
        assert failed.value.setting == setting


def test_secrets_are_not_shown():
    config = Config(ssl_certfile="a", ssl_keyfile_password="open sesame")
    config = config.replace(ssl_ticket_secret=b"\x01" * 32)
    assert "sesame" not in repr(config)
    assert "x01" not in repr(config)
    assert config.scheme() == "https"
    assert config.address().startswith("https://")


def test_the_type_checks_what_it_is_given(pair):
    with pytest.raises(ValueError, match="at least one"):
        TLS([])
    with pytest.raises(ValueError, match="32 bytes"):
        TLS([pair], secret=b"short")
    with pytest.raises(TypeError):
        TLS([pair[0]])
    with pytest.raises(IndexError):
        TLS([pair]).expires(1)
    with running(app) as server:
        with pytest.raises(TypeError, match="a TLS is wanted, not int"):
            server.server.use_tls(1)


def test_a_handshake_is_finished_and_its_request_served_in_a_shutdown(authority, pair):
    """Who has connected before the end is served, even if it takes longer than an idle client may."""
    with serving(pair) as server:
        with socket.create_connection(server.address, timeout=TIMEOUT) as plain:
            wait_for(lambda: server.server.connections == 1)
            server.loop_thread.stop()
            time.sleep(0.6)
            with authority.context().wrap_socket(plain, server_hostname="localhost") as sock:
                time.sleep(0.35)
                assert ask(sock).endswith(b"hello")
