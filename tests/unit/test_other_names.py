"""uvicorn's and Hypercorn's names of settings, in programs and on the command line."""

import logging
import logging.config
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from turboapi._serving import other_names
from turboapi.cli import _commands
from turboapi.config import ConfigError, settings

OPTIONS = tomllib.loads((Path(__file__).parents[2] / "docs/options.toml").read_text())


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"reload_dirs": ["a", "b"]}, "reload_dir", ("a", "b")),
        ({"reload_includes": "*.html"}, "reload_include", ("*.html",)),
        ({"limit_max_requests": 5}, "max_requests", 5),
        ({"limit_max_requests": None, "max_requests": 6}, "max_requests", 6),
        ({"max_requests": 6, "limit_max_requests": None}, "max_requests", 6),
        ({"timeout_keep_alive": 7}, "timeout_idle", 7.0),
        ({"h11_max_incomplete_event_size": 1024}, "limit_header_bytes", 1024),
        ({"headers": [("X-A", "b, c"), ("X-D", "e")]}, "header", ("X-A: b, c", "X-D: e")),
        ({"loop": "auto"}, "loop", "turboapi"),
        ({"loop": "none"}, "loop", "asyncio"),
        ({"loop": "uvloop"}, "loop", "uvloop"),
        ({"interface": "asgi3"}, "interface", "auto"),
        ({"interface": "wsgi"}, "interface", "wsgi"),
        ({"log_level": logging.WARNING}, "log_level", "warning"),
        ({"http": "httptools", "ws": "auto", "port": 1}, "port", 1),
        ({"certfile": "a.pem"}, "ssl_certfile", ("a.pem",)),
        ({"access_logfile": "-"}, "access_log", True),
    ],
    ids=str,
)
def test_names(given, name, value):
    assert getattr(other_names.load(given), name) == value


def test_what_none_means():
    given = other_names.arguments({"log_config": None, "ws_ping_interval": None, "port": None})
    config = other_names.load(given)
    assert (config.ws_ping_interval, config.port) == (0, 8000)
    before = list(logging.getLogger("turboapi").handlers)
    logging.config.dictConfig(config.log_config)
    assert logging.getLogger("turboapi").handlers == before
    assert other_names.arguments({}) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit_max_requests": "x"}, "limit_max_requests: must be a number"),
        (
            {"limit_max_requests": 1, "max_requests": 2},
            "max_requests: can't be used together with ",
        ),
        ({"ssl_context_factory": print}, "ssl_context_factory: name files: ssl_certfile"),
        ({"quic_bind": ":443"}, "quic_bind: there is no HTTP/3 here"),
        ({"no_such": 1}, "no_such: there is no such setting"),
        ({"log_config": {"version": 7}}, ""),
    ],
    ids=str,
)
def test_errors_name_what_was_given(given, message):
    if not message:
        assert other_names.load(given).log_config == {"version": 7}
        return
    with pytest.raises(ConfigError) as raised:
        other_names.load(given)
    assert str(raised.value).startswith(message)


def test_the_tables_agree():
    """What docs/options.toml says of an option, the command line does."""
    known = settings()
    for server in OPTIONS.values():
        for option, ours in server["options"].items():
            name = option.replace("-", "_")
            if server["title"] not in ("uvicorn", "Hypercorn"):
                continue
            if name in other_names.RENAMED:
                assert ours == "--" + other_names.RENAMED[name].replace("_", "-"), option
            elif name in other_names.NEEDLESS:
                assert list(ours) == ["no"], option
            elif name in other_names.REFUSED:
                assert list(ours) in (["no"], ["instead"]), option
            elif isinstance(ours, str) and name in known:
                assert ours == f"--{option}"
    for name, ours in other_names.RENAMED.items():
        assert ours in known
        assert name not in known
    assert not set(other_names.NEEDLESS) & set(known)
    assert not set(other_names.REFUSED) & set(known)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--http", "auto"), 0, "--http has no effect: there is one parser, in C"),
        (("--limit-max-requests", "5", "--loop", "auto"), 0, ""),
        (("--certfile", "a.pem", "--keyfile", "b.pem"), 0, ""),
        (("-w", "2", "-b", ":80", "--access-logfile", "-"), 0, ""),
        (("--reset-contextvars",), 0, "--reset-contextvars has no effect: each request"),
        (("--limit-max-requests", "x"), 2, "Error: --limit-max-requests: must be a number"),
        (("--quic-bind", ":443"), 2, "Error: --quic-bind: there is no HTTP/3 here"),
        (("--user", "nobody"), 2, "Error: --user: start it as that user"),
        (("-w", "x"), 2, "Error: --workers: must be a number, got 'x'"),
    ],
    ids=str,
)
def test_on_the_command_line(monkeypatch, options, code, words):
    monkeypatch.setattr(_commands, "serve_config", lambda config: 0)
    done = CliRunner().invoke(_commands.app, ["run", "main:app", *options])
    assert (done.exit_code, done.output.startswith(words)) == (code, True), done.output
    assert bool(done.output) == bool(words)


def test_the_help_does_not_show_them():
    done = CliRunner().invoke(_commands.app, ["run", "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert "--limit-max-requests" not in done.output
    assert "--quic-bind" not in done.output


def test_uvicorns_form_of_a_command():
    done = CliRunner().invoke(_commands.app, ["main:app", "--reload"])
    assert done.exit_code == 2
    assert "turboapi run main:app" in done.output
