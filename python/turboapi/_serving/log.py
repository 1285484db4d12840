"""The server's log: coloured lines on a terminal, in uvicorn's form, so that tools read them.

Loggers: `turboapi` (the framework), `turboapi.server`, `turboapi.error` (exceptions of
applications), `turboapi.supervisor`, and `turboapi.access`, whose records have the arguments
(client, method, path with query, HTTP version, status), as those of `uvicorn.access`. uvicorn's
loggers are set up as well, for applications that write to them or change them (`twins`).
"""

from __future__ import annotations

import http
import importlib.util
import json
import logging
import logging.config
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from turboapi._serving import twins
from turboapi.config import ConfigError

if TYPE_CHECKING:
    from turboapi.config import Config

TRACE = 5
ACCESS_FORMAT = '%s - "%s %s HTTP/%s" %d'

access_logger = logging.getLogger("turboapi.access")
server_logger = logging.getLogger("turboapi.server")
supervisor_logger = logging.getLogger("turboapi.supervisor")

_FORMAT = "%(levelprefix)s %(message)s"

_RESET = "\033[0m"
_BOLD = "\033[1m"
_LEVEL_COLOURS = {
    TRACE: "\033[34m",
    logging.DEBUG: "\033[36m",
    logging.INFO: "\033[32m",
    logging.WARNING: "\033[33m",
    logging.ERROR: "\033[31m",
    logging.CRITICAL: "\033[91m",
}
# By the first digit of the status.
_STATUS_COLOURS = {1: "\033[97m", 2: "\033[32m", 3: "\033[33m", 4: "\033[31m", 5: "\033[91m"}


class Formatter(logging.Formatter):
    """`LEVEL:    message`, the level in colour where colours are wanted.

    The attributes `levelprefix`, and for access records `client_addr`, `request_line` and
    `status_code`, can be used in formats of one's own.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        *,
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt or _FORMAT, datefmt, style)
        self.use_colors = sys.stderr.isatty() if use_colors is None else use_colors
        self.is_plain = fmt in (None, _FORMAT) and style == "%"

    def access_parts(self) -> tuple[str, str, str]:
        """Return what an access line of a plain format has before it and round the request line."""
        prefix = self._level_prefix("INFO", logging.INFO) + " "
        return (prefix, _BOLD, _RESET) if self.use_colors else (prefix, "", "")

    def outcome(self, status: int) -> str:
        """Return a status with its phrase."""
        text = f"{status} {_phrase(status)}".rstrip()
        return self._colour(text, _STATUS_COLOURS.get(int(status) // 100))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Add our attributes, and write the line."""
        line = getattr(record, "access_line", None)
        if line is not None:  # in the form of `access_log_format`
            return str(line).rstrip("\n")
        record.levelprefix = self._level_prefix(record.levelname, record.levelno)
        arguments = record.args
        if record.name.endswith(".access") and isinstance(arguments, tuple) and len(arguments) == 5:
            self._spread(record, arguments)
        return super().formatMessage(record)

    def _level_prefix(self, name: str, number: int) -> str:
        level = f"{name}:"
        return self._colour(level, _LEVEL_COLOURS.get(number)) + " " * (9 - len(level))

    def _spread(self, record: logging.LogRecord, arguments: tuple[Any, ...]) -> None:
        client, method, path, version, status = arguments
        line = f"{method} {path} HTTP/{version}"
        record.client_addr = client
        line = self._colour(line, _BOLD)
        outcome = self.outcome(status)
        record.request_line, record.status_code = line, outcome
        record.message = f'{client} - "{line}" {outcome}'

    def _colour(self, text: str, colour: str | None) -> str:
        return f"{colour}{text}{_RESET}" if self.use_colors and colour else text


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def configure(config: Config) -> None:
    """Set up logging as the configuration says; a file in `log_config` decides levels too.

    Raises:
        ConfigError: the file of `log_config` can't be used.
    """
    logging.addLevelName(TRACE, "TRACE")
    twins.pair()
    if config.log_config is not None:
        if isinstance(config.log_config, dict):
            _configure_from_dictionary(config.log_config)
        else:
            _configure_from(config.log_config)
    else:
        logging.config.dictConfig(_dictionary(config))
    if not config.access_log:
        access_logger.setLevel(logging.CRITICAL + 1)
        for logger in (access_logger, logging.getLogger(twins.ACCESS)):
            logger.handlers.clear()
            logger.propagate = False
    if config.log_config is None:
        twins.remember()
    else:
        twins.forget()


def _dictionary(config: Config) -> dict[str, Any]:
    def handler(stream: str) -> dict[str, Any]:
        is_log = stream == "stderr"
        return {
            "class": "turboapi._serving.error_log.Handler" if is_log else "logging.StreamHandler",
            "formatter": stream,
            "stream": f"ext://sys.{stream}",
        }

    level = config.log_level.upper()

    def formatter(stream: Any) -> dict[str, Any]:
        colours = stream.isatty() if config.use_colors is None else config.use_colors
        return {"()": Formatter, "use_colors": colours}

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"stderr": formatter(sys.stderr), "stdout": formatter(sys.stdout)},
        "handlers": {"stderr": handler("stderr"), "stdout": handler("stdout")},
        "loggers": {
            "turboapi": {"handlers": ["stderr"], "level": level, "propagate": False},
            "turboapi.access": {"handlers": ["stdout"], "level": level, "propagate": False},
            "uvicorn": {"handlers": ["stderr"], "level": level, "propagate": False},
            twins.ERROR: {"level": level},
            twins.ACCESS: {"handlers": ["stdout"], "level": level, "propagate": False},
        },
    }


def _configure_from(path: str) -> None:
    file = Path(path)
    if not file.is_file():
        raise ConfigError("log_config", f"there is no file {path}")
    try:
        match file.suffix.lower():
            case ".json":
                _configure_with(json.loads(file.read_text("utf-8")))
            case ".yaml" | ".yml":
                import yaml  # type: ignore[import-untyped]

                _configure_with(yaml.safe_load(file.read_text("utf-8")))
            case _:
                logging.config.fileConfig(file, disable_existing_loggers=False)
    except ImportError:
        raise ConfigError(
            "log_config", "YAML needs the package PyYAML: pip install pyyaml"
        ) from None
    except Exception as error:
        raise ConfigError("log_config", f"{path} can't be used: {_reason(error)}") from error


def _configure_from_dictionary(dictionary: dict[str, Any]) -> None:
    try:
        _configure_with(dictionary)
    except Exception as error:
        why = _reason(error)
        raise ConfigError("log_config", f"the dictionary can't be used: {why}") from error


def _reason(error: BaseException) -> str:
    """Return what an error says, and its causes: logging's own errors only tell where it was."""
    text, cause = str(error), error.__cause__
    while cause is not None:
        if str(cause) not in text:
            text = f"{text}: {cause}"
        cause = cause.__cause__
    return text


def _configure_with(dictionary: Any) -> None:
    """Set logging up; uvicorn's formatters are ours where uvicorn is not installed."""
    formatters: dict[str, Any] = dictionary.get("formatters", {})
    for formatter in formatters.values():
        of_uvicorn = str(formatter.get("()", "")).startswith("uvicorn.logging.")
        if of_uvicorn and importlib.util.find_spec("uvicorn") is None:
            formatter["()"] = Formatter
    logging.config.dictConfig(dictionary)
