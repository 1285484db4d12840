"""The log's lines."""

import json
import logging

import pytest

from turboapi._serving import log, twins
from turboapi.config import Config, ConfigError

NAMES = ("turboapi", "turboapi.access", "uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture(autouse=True)
def restore():
    """Logging as it was, of every logger: a configuration may turn off those that it doesn't name."""
    root = logging.getLogger()
    loggers = {name: logging.getLogger(name) for name in [*root.manager.loggerDict, *NAMES]}
    before = [
        (logger, dict(vars(logger)), list(logger.handlers), type(logger))
        for logger in [root, *loggers.values()]
    ]
    known = twins._remembered, twins._own_handlers
    yield
    for logger, attributes, handlers, kind in before:
        logger.__class__ = kind
        logger.handlers[:] = handlers
        logger.setLevel(attributes["level"])
        logger.propagate, logger.disabled = attributes["propagate"], attributes["disabled"]
    twins._remembered, twins._own_handlers = known


def record(name, level, message, *args):
    return logging.LogRecord(name, level, "", 0, message, args, None)


def access(status=200):
    return record(
        "turboapi.access",
        logging.INFO,
        log.ACCESS_FORMAT,
        "1.2.3.4:5",
        "GET",
        "/a?b",
        "1.1",
        status,
    )


def test_plain_lines():
    plain = log.Formatter(use_colors=False)
    assert plain.format(record("turboapi.server", logging.INFO, "x %d", 1)) == "INFO:     x 1"
    assert plain.format(record("turboapi", logging.CRITICAL, "x")) == "CRITICAL: x"
    assert plain.format(access()) == 'INFO:     1.2.3.4:5 - "GET /a?b HTTP/1.1" 200 OK'
    assert plain.format(access(599)) == 'INFO:     1.2.3.4:5 - "GET /a?b HTTP/1.1" 599'


def test_coloured_lines():
    coloured = log.Formatter(use_colors=True)
    line = coloured.format(access(404))
    assert line.startswith("\033[32mINFO:\033[0m     1.2.3.4:5")
    assert "\033[31m404 Not Found\033[0m" in line
    assert "\033[1mGET /a?b HTTP/1.1\033[0m" in line


def test_own_format():
    own = log.Formatter("%(client_addr)s|%(request_line)s|%(status_code)s", use_colors=False)
    assert own.format(access()) == "1.2.3.4:5|GET /a?b HTTP/1.1|200 OK"


def test_streams_and_levels(capsys):
    log.configure(Config(log_level="info"))
    log.server_logger.info("to stderr")
    log.server_logger.debug("nowhere")
    log.access_logger.handle(access())
    captured = capsys.readouterr()
    assert captured.err == "INFO:     to stderr\n"
    assert captured.out == 'INFO:     1.2.3.4:5 - "GET /a?b HTTP/1.1" 200 OK\n'


def test_access_log_off():
    log.configure(Config(access_log=False))
    assert not log.access_logger.isEnabledFor(logging.INFO)
    log.configure(Config())
    assert log.access_logger.isEnabledFor(logging.INFO)
    log.configure(Config(log_level="warning"))
    assert not log.access_logger.isEnabledFor(logging.INFO)


def test_formatter_by_the_name_that_is_documented(tmp_path):
    formatter = {"()": "turboapi._log.Formatter", "use_colors": False}
    handler = {"class": "logging.StreamHandler", "formatter": "ours"}
    path = tmp_path / "log.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"ours": formatter},
                "handlers": {"out": handler},
                "loggers": {"turboapi": {"handlers": ["out"]}},
            }
        )
    )
    log.configure(Config(log_config=str(path)))
    (out,) = logging.getLogger("turboapi").handlers
    assert type(out.formatter) is log.Formatter


def test_log_config_file(tmp_path):
    good = tmp_path / "log.json"
    good.write_text('{"version": 1, "loggers": {"turboapi": {"level": "ERROR"}}}')
    log.configure(Config(log_config=str(good)))
    assert logging.getLogger("turboapi").level == logging.ERROR
    for name in ("log.json2", "missing.json", "bad.json"):
        path = tmp_path / name
        if name == "bad.json":
            path.write_text("{")
        with pytest.raises(ConfigError, match="^log_config: "):
            log.configure(Config(log_config=str(path)))
