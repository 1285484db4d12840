"""Binding: what works, and what is said when it does not."""

import contextlib
import os
import socket
import stat

import pytest

from turboapi._serving.sockets import BindError, bind, describe, listen, refuse, remove_files
from turboapi.config import Config, ConfigError


def test_free_port_and_address():
    with bind(Config(port=0)) as bound:
        port = bound.getsockname()[1]
        assert port > 0
        assert describe(bound) == f"http://127.0.0.1:{port}"
        assert not bound.get_inheritable()


def test_port_in_use_names_the_setting_and_who():
    with bind(Config(port=0)) as bound:
        listen(bound, 10)
        port = bound.getsockname()[1]
        with pytest.raises(BindError) as caught:
            bind(Config(port=port))
    message = str(caught.value)
    assert f"Port {port} on 127.0.0.1 is in use" in message
    assert f"(process {os.getpid()})" in message
    assert "--port (TURBOAPI_PORT)" in message


def test_listening_comes_later():
    with bind(Config(port=0)) as bound:
        address = bound.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 5)
        with bind(Config(fd=bound.fileno())) as inherited:
            listen(inherited, 10)
            listen(inherited, 10)
        socket.create_connection(address, 5).close()


def test_refusing_for_a_while():
    with bind(Config(port=0)) as free:
        port = free.getsockname()[1]
    with bind(Config(port=port)) as bound:
        refuse(bound)
        listen(bound, 10)
        with socket.create_connection(("127.0.0.1", port), 5) as waiting:
            refuse(bound)
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        listen(bound, 10)
        socket.create_connection(("127.0.0.1", port), 5).close()


def test_two_that_were_bound_to_the_same_port():
    with bind(Config(port=0)) as first:
        port = first.getsockname()[1]
        with bind(Config(port=port)) as second:
            listen(first, 10)
            with pytest.raises(BindError, match=f"Can't listen on http://127.0.0.1:{port}"):
                listen(second, 10)


def test_foreign_address_and_unknown_name():
    with pytest.raises(
        BindError, match=r"192\.0\.2\.1 is no address of this machine: change --host"
    ):
        bind(Config(host="192.0.2.1"))
    with pytest.raises(BindError, match="--host, TURBOAPI_HOST"):
        bind(Config(host="no such host"))


def test_localhost_is_ipv4_and_ipv6_works():
    with bind(Config(host="localhost", port=0)) as bound:
        assert bound.family == socket.AF_INET
    try:
        bound = bind(Config(host="::1", port=0))
    except BindError:
        pytest.skip("no IPv6 here")
    with bound:
        assert describe(bound).startswith("http://[::1]:")


def test_unix_socket(tmp_path):
    path = str(tmp_path / "s")
    with bind(Config(uds=path)) as bound:
        assert describe(bound) == f"unix:{path}"
        with pytest.raises(BindError, match="A server is starting on"):
            bind(Config(uds=path))
        listen(bound, 10)
        with pytest.raises(BindError, match="A server is listening on"):
            bind(Config(uds=path))
    # What a dead server left is replaced.
    with bind(Config(uds=path)):
        pass


def test_unix_socket_never_removes_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("keep")
    with pytest.raises(ConfigError, match="uds: .*is no socket"):
        bind(Config(uds=str(path)))
    assert path.read_text() == "keep"
    with pytest.raises(ConfigError, match="uds: there is no folder"):
        bind(Config(uds=str(tmp_path / "no" / "folder")))
    with pytest.raises(ConfigError, match="uds: a path of .* bytes is too long"):
        bind(Config(uds=str(tmp_path / ("x" * 108))))
    with pytest.raises(ConfigError, match="uds: '' is no path"):
        bind(Config(uds=""))


def test_a_unix_socket_whose_backlog_is_full_is_not_taken(tmp_path):
    path = str(tmp_path / "s")
    with bind(Config(uds=path)) as bound, contextlib.ExitStack() as stack:
        bound.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(path)
        with pytest.raises(BindError, match="A server is listening on"):
            bind(Config(uds=path))
        assert stat.S_ISSOCK((tmp_path / "s").stat().st_mode)


def test_only_our_own_unix_socket_is_removed(tmp_path, monkeypatch):
    config = Config(uds="s")
    monkeypatch.chdir(tmp_path)
    with bind(config):
        monkeypatch.chdir("/")  # the application may go elsewhere
        remove_files(config)
    assert not (tmp_path / "s").exists()
    monkeypatch.chdir(tmp_path)
    with bind(config):
        (tmp_path / "s").unlink()
        (tmp_path / "s").write_text("another's")
        remove_files(config)
    assert (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("umask", "permissions", "mode"),
    [
        (0o077, None, 0o700),
        (0o022, None, 0o755),
        (0o007, None, 0o770),
        (0o022, "600", 0o600),
        (0o077, "666", 0o666),
        (0o077, 0o660, 0o660),
    ],
)
def test_permissions_of_a_unix_socket(tmp_path, umask, permissions, mode):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    path.chmod(0o604)
    before = os.umask(umask)
    try:
        with bind(Config(uds=str(path), uds_permissions=permissions)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_inherited_descriptor():
    with bind(Config(port=0)) as first:
        with bind(Config(fd=first.fileno())) as second:
            assert second.getsockname() == first.getsockname()
        assert first.fileno() >= 0
        first.getsockname()
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        with pytest.raises(ConfigError, match="fd: .* of another kind than stream"):
            bind(Config(fd=other.fileno()))
    one, two = socket.socketpair()
    with one, two, pytest.raises(ConfigError, match="fd: .* is a connection"):
        bind(Config(fd=one.fileno()))
    read, write = os.pipe()
    with pytest.raises(ConfigError, match="fd: .* is no open socket"):
        bind(Config(fd=read))
    os.close(read)
    os.close(write)
