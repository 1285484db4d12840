"""What uvicorn and Hypercorn call our settings: calls and command lines written for them will do.

`turboapi.run()`, `turboapi.Config` and the command line take these names besides ours; a name that
means nothing here is let pass with its reason, or refused with a hint. docs/options.toml is the
same for people, with all options; a test compares the two.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from turboapi._serving.settings import ConfigError
from turboapi.config import ENV_PREFIX, Config, settings

# Their name: ours.
RENAMED = {
    # uvicorn's
    "reload_dirs": "reload_dir",
    "reload_includes": "reload_include",
    "reload_excludes": "reload_exclude",
    "headers": "header",
    "limit_max_requests": "max_requests",
    "limit_max_requests_jitter": "max_requests_jitter",
    "timeout_keep_alive": "timeout_idle",
    "timeout_worker_healthcheck": "timeout_worker",
    "h11_max_incomplete_event_size": "limit_header_bytes",
    # Hypercorn's
    "certfile": "ssl_certfile",
    "keyfile": "ssl_keyfile",
    "keyfile_password": "ssl_keyfile_password",
    "ca_certs": "ssl_ca_certs",
    "ciphers": "ssl_ciphers",
    "cert_reqs": "ssl_cert_reqs",
    "keep_alive": "timeout_idle",
    "graceful_timeout": "timeout_graceful_shutdown",
    "read_timeout": "timeout_body",
    "access_logformat": "access_log_format",
    "worker_class": "loop",
    "pid": "pid_file",
    "websocket_ping_interval": "ws_ping_interval",
}

# Their name: why it can be left out.
NEEDLESS = {
    "http": "there is one parser, in C",
    "ws": "there is one implementation of WebSockets, in C",
    "reset_contextvars": "each request always has a context of its own",
    "timeout_notify": "nothing has to be notified",
}

# Their name: what to do instead.
REFUSED = {
    "ssl_version": "use --ssl-min-version (ssl_min_version)",
    "ssl_context_factory": "name files: ssl_certfile, ssl_keyfile; they are read again when they "
    "change",
    "callback_notify": "run a task in the application's lifespan",
    "quic_bind": "there is no HTTP/3 here: put a proxy that speaks it in front",
    "insecure_bind": "use --redirect-http (redirect_http) to send clients from http to https",
    "verify_mode": "use --ssl-cert-reqs (ssl_cert_reqs): none, optional or required",
    "server_name": "use TrustedHostMiddleware in the application",
    "statsd_host": "use --metrics (metrics), which Prometheus reads",
    "umask": "use --uds-permissions (uds_permissions), or start it with that umask",
    "user": "start it as that user, as systemd and containers do",
    "group": "start it as that group, as systemd and containers do",
    "access_logfile": "the access log goes to stdout: redirect that; --no-access-log turns it off",
    "error_logfile": "the log goes to stderr: redirect that",
    "debug": "use --reload for development, --log-level debug (log_level) to hear more",
}

# Those that take no value on their command lines.
FLAGS = frozenset({"reset_contextvars", "debug"})

# Not options anywhere, but arguments of uvicorn's functions.
ARGUMENTS = frozenset(
    {
        *("reload_dirs", "reload_includes", "reload_excludes", "headers", "timeout_notify"),
        *("ssl_context_factory", "callback_notify"),
    }
)

# Values that are called otherwise here; None: what the setting has by itself.
_VALUES: dict[str, dict[str, str | None]] = {
    "loop": {"auto": None, "none": "asyncio"},
    "interface": {"asgi3": "auto", "asgi2": "auto"},
}

# A configuration of logging that changes nothing.
_LEAVE_LOGGING: dict[str, Any] = {"version": 1, "incremental": True}


def load(values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Config:
    """Return the settings, as `Config.load` does, of values under any of the names.

    Raises:
        ConfigError: naming the setting as it was given.
    """
    ours: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name, value in values.items():
        if name in REFUSED and value not in (None, "-"):  # "-" is the stream that we log to, too
            raise ConfigError(name, REFUSED[name])
        if name in REFUSED or name in NEEDLESS:
            continue
        our_name = RENAMED.get(name, name)
        if our_name in ours and value is None:
            continue
        if ours.get(our_name) is not None:
            raise ConfigError(name, "can't be used together with {}", given[our_name])
        ours[our_name], given[our_name] = _value(our_name, value), name
    try:
        return Config.load(ours, defaults=defaults)
    except ConfigError as error:
        raise error.named(lambda name: given.get(name, name)) from None


def strange_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what to say of environment variables that nearly are those of settings."""
    known = [name.upper() for name in settings()]
    for variable in sorted(environ):
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in known:
            continue
        ours = RENAMED.get(name.lower())
        near = [ours.upper()] if ours else difflib.get_close_matches(name, known, 1, 0.8)
        if near:
            yield f"{variable} is no setting: did you mean {ENV_PREFIX}{near[0]}?"


def _value(name: str, value: Any) -> Any:
    """Return what a value of uvicorn's is here."""
    if name in _VALUES and isinstance(value, str):
        return _VALUES[name].get(value.strip().lower(), value)
    if name == "log_level" and isinstance(value, int):
        return logging.getLevelName(value).lower()
    if name == "header" and value and not isinstance(value, str):
        return [each if isinstance(each, str) else ": ".join(each) for each in value]
    return value


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call, with what uvicorn means by None besides "not given"."""
    values = dict(given)
    if "log_config" in values and values["log_config"] is None:
        values["log_config"] = _LEAVE_LOGGING
    for name in ("ws_ping_interval", "ws_ping_timeout"):
        if name in values and values[name] is None:
            values[name] = 0
    return values
