"""The server's settings.

`Config` is what the command line, `app.run()` and the environment are turned into, and all that
the server (`_serving.server.serve(app, config)`) and the supervisor are told.  It is immutable,
checked when it is made, and pickles.

    Config(port=9000)                 checked, the environment not read
    Config.load({"port": "9000"})     values as text or typed; then TURBOAPI_*; then defaults

Every setting has an environment variable, `TURBOAPI_` and its name in upper case, and (but for
those of the application itself) an option of `turboapi run`, its name with dashes.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from typing import TYPE_CHECKING, Any

from turboapi._compression import MINIMUM_SIZE, TYPES, Compression, read_codings, read_types
from turboapi._core import HTTP_LIMITS
from turboapi._serving import access_format, addresses, static_paths
from turboapi._serving.settings import (
    METADATA_KEY,
    Choice,
    ConfigError,
    Duration,
    Flag,
    Lines,
    LogConfig,
    Mode,
    Number,
    NumberedChoice,
    Secret,
    Setting,
    Size,
    Text,
    Words,
    setting,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Self

__all__ = ["Config", "ConfigError"]

ENV_PREFIX = "TURBOAPI_"
LOG_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")

_UINT32 = 2**32 - 1
_LONGEST_TIMEOUT = _UINT32 // 1000

# Names of fields (RFC 9110, 5.6.2), and those that belong to a message or a connection.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FRAMING = {"content-length", "transfer-encoding", "connection", "upgrade", "trailer"}

_LEAST_HEAD = 16
_LEAST_BUFFER = 1024

# What is done by a supervisor, so that there is one even for one worker.
_REPLACING = ("preload", "max_requests", "max_rss", "max_lifetime")

_count = Number(0, _UINT32)
_size = Size(0, _UINT32)
_duration = Duration(0, _LONGEST_TIMEOUT)

# Headings of --help, in their order.
APPLICATION = "Application"
BINDING = "Where it listens"
TLS = "TLS (https)"
PROCESSES = "Processes and threads"
RELOADING = "Reloading"
LOGGING = "Logging"
HTTP = "HTTP"
METRICS = "Metrics"
LIMITS = "Limits (0: none)"
HTTP2 = "Limits of an HTTP/2 connection (0: none)"
TIMEOUTS = "Timeouts (0: none)"
WEBSOCKETS = "WebSockets (0: no limit, none)"


def _proxies(text: str) -> None:
    """Of a repeated option, each may have several with commas between."""
    for entry in filter(None, (part.strip() for part in text.split(","))):
        if entry in ("*", "unix") or entry.startswith("/"):  # the last: the name of a unix socket
            continue
        try:
            ipaddress.ip_network(entry)
        except ValueError as error:
            raise ValueError(f"must be addresses, networks, 'unix' or '*': {error}") from None


def _header(text: str) -> None:
    name, colon, value = text.partition(":")
    if not colon or _TOKEN.fullmatch(name.strip()) is None:
        raise ValueError(f"must be 'Name: value', got {text!r}")
    if name.strip().lower() in _FRAMING:
        raise ValueError(f"{name.strip()} is the server's own")
    if not (value.isascii() and value.strip().isprintable()):
        raise ValueError(f"must have a value of printable ASCII, got {text!r}")


def _field_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", text):
        raise ValueError(f"must be the name of a header field, got {text!r}")
    if text.lower() in ("content-length", "transfer-encoding", "connection", "host"):
        raise ValueError(f"can't be {text}")
    return text


class _Codings(Words):
    """Codings of content, with commas between wherever they stand."""

    def parse(self, value: Any) -> tuple[str, ...]:
        words = super().parse(value)
        words = super().parse(",".join(words))
        read_codings(words)
        return words


def _media_type(text: str) -> None:
    read_types([text])


def _root_path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError(f"must start with '/', got {text!r}")
    return text.rstrip("/")


def _default_in_c(c_field: str) -> float:
    """Return the default of a member of `ta_http_limits`; of a time in seconds."""
    default, _highest = HTTP_LIMITS[c_field]
    return default / 1000 if c_field.endswith("_ms") else default


def _limit(help: str, c_field: str, number: type[Number] = Number) -> Any:
    _default, highest = HTTP_LIMITS[c_field]
    return setting(_default_in_c(c_field), number(0, highest), help, LIMITS, c_field=c_field)


def _http2(help: str, c_field: str, number: type[Number] = Number) -> Any:
    _default, highest = HTTP_LIMITS[c_field]
    return setting(_default_in_c(c_field), number(0, highest), help, HTTP2, c_field=c_field)


def _websocket(help: str, c_field: str, kind: Any) -> Any:
    return setting(_default_in_c(c_field), kind, help, WEBSOCKETS, c_field=c_field)


def _timeout(help: str, c_field: str, *aliases: str) -> Any:
    return setting(
        _default_in_c(c_field), _duration, help, TIMEOUTS, c_field=c_field, aliases=aliases
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one server; see the module.

    Raises:
        ConfigError: a value is of the wrong type, out of its range or at odds with another.
            Its message begins with the name of the setting.
    """

    # -- The application
    app: str | None = setting(
        None,
        Text("APP"),
        "Import string of the application: `package.module:attribute`.",
        APPLICATION,
        command_line=False,
    )
    app_dir: str | None = setting(
        None, Text("DIR"), "Folder that modules are looked for in; default: the current one.",
        APPLICATION,
    )  # fmt: skip
    factory: bool = setting(
        False, Flag(), "The attribute is a function that returns the application.", APPLICATION
    )
    interface: str = setting(
        "auto",
        Choice(("auto", "asgi", "wsgi", "turboapi", "fastapi")),
        "What the application is; auto finds out. asgi: a FastAPI one is not compiled.",
        APPLICATION,
    )
    lifespan: str = setting(
        "auto",
        Choice(("auto", "on", "off")),
        "Run startup and shutdown; auto: an application without them is served all the same.",
        APPLICATION,
    )
    root_path: str = setting(
        "",
        Text("PATH", _root_path),
        "Prefix that a proxy in front removes from paths; URLs that are made here have it.",
        APPLICATION,
    )
    env_file: str | None = setting(
        None, Text("FILE"), "File of further environment variables; needs python-dotenv.",
        APPLICATION,
    )  # fmt: skip

    # -- Listening
    host: str = setting("127.0.0.1", Text("ADDRESS"), "Address or name to listen on.", BINDING)
    port: int = setting(
        8000, Number(0, 65535), "Port to listen on; 0 takes a free one.", BINDING,
        also_env=("PORT",),
    )  # fmt: skip
    uds: str | None = setting(
        None, Text("PATH"), "Unix domain socket to listen on instead of host and port.", BINDING
    )
    uds_permissions: int | None = setting(
        None, Mode(), "Permissions of that socket, such as 660; default: those the umask leaves.",
        BINDING, aliases=("--uds-mode",),
    )  # fmt: skip
    fd: int | None = setting(
        None, Number(0, _UINT32), "Descriptor of a listening socket that was inherited.", BINDING
    )
    bind: tuple[str, ...] = setting(
        (),
        Words("ADDRESS", addresses.check),
        "HOST:PORT, unix:PATH, fd://N or systemd:NAME, instead of those above. May be repeated.",
        BINDING,
        aliases=("-b",),
    )
    backlog: int = setting(
        2048, Number(1, 2**31 - 1), "Connections that may wait to be accepted.", BINDING
    )

    # -- TLS
    ssl_certfile: tuple[str, ...] = setting(
        (),
        Words("FILE"),
        "Certificate and its chain, PEM: the server speaks https. May be repeated, by host.",
        TLS,
    )
    ssl_keyfile: tuple[str, ...] = setting(
        (), Words("FILE"), "Its private key; default: in the certificate's file. One for each.", TLS
    )
    ssl_keyfile_password: str | None = setting(
        None, Text("TEXT"), "Password of the keys; better given by the environment.", TLS,
        secret=True,
    )  # fmt: skip
    ssl_ca_certs: str | None = setting(
        None, Text("FILE"), "Authorities that issue clients' certificates: a file or a folder.", TLS
    )
    ssl_cert_reqs: str = setting(
        "none",
        NumberedChoice(("none", "optional", "required")),
        "Whether clients must show a certificate.",
        TLS,
    )
    ssl_crl: str | None = setting(
        None,
        Text("FILE"),
        "Revocation lists for clients' certificates: one of each authority.",
        TLS,
    )
    ssl_ciphers: str | None = setting(
        None,
        Text("LIST"),
        "Ciphers of TLS 1.2, as `openssl ciphers` takes them; default: ECDHE with AEAD.",
        TLS,
    )
    ssl_min_version: str = setting("1.2", Choice(("1.2", "1.3")), "Lowest version of TLS.", TLS)
    redirect_http: int | None = setting(
        None, Number(1, 65535), "Port that sends clients from http to https.", TLS
    )
    ssl_ticket_secret: bytes | None = setting(
        None,
        Secret(32),
        "32 bytes, from which the keys of session tickets are made.",
        TLS,
        command_line=False,
        secret=True,
    )

    # -- Processes and threads
    workers: int = setting(
        1, Number(1, 1024), "Processes that serve, supervised and restarted.", PROCESSES,
        also_env=("WEB_CONCURRENCY",), aliases=("-w",),
    )  # fmt: skip
    threads: int = setting(
        1,
        Number(1, 1024),
        "Event loops per process, each in its own thread; for free-threaded Python.",
        PROCESSES,
    )
    thread_pool: int = setting(
        40, Number(1, 4096), "Threads for `def` handlers that may block.", PROCESSES
    )
    loop: str = setting(
        "turboapi",
        Choice(("turboapi", "asyncio", "uvloop")),
        "Event loop: turboapi's is asyncio's with its queues and timers in C.",
        PROCESSES,
    )
    gc_freeze: bool = setting(
        True, Flag(), "Exempt what exists after the start from garbage collection.", PROCESSES
    )
    gc_threshold: int = setting(
        0,
        Number(0, 2**31 - 1),
        "New objects after which garbage is collected; 0: Python's own threshold.",
        PROCESSES,
    )

    preload: bool = setting(
        False, Flag(), "Import the application once, and fork the workers from that process.",
        PROCESSES,
    )  # fmt: skip
    max_requests: int = setting(
        0,
        _count,
        "Requests that a worker serves before another replaces it; 0: no limit.",
        PROCESSES,
    )
    max_requests_jitter: int = setting(
        0, Number(0, 2**31 - 1), "Most requests that are added to that number at random.",
        PROCESSES,
    )  # fmt: skip
    max_rss: int = setting(
        0, Size(0, 2**63 - 1), "Memory of a worker above which another replaces it; 0: no limit.",
        PROCESSES,
    )  # fmt: skip
    max_lifetime: float = setting(
        0.0, _duration, "Age of a worker at which another replaces it; 0: no limit.", PROCESSES
    )
    pid_file: str | None = setting(
        None, Text("FILE"), "File for the number of the process to signal.", PROCESSES
    )
    process_name: str | None = setting(
        None, Text("NAME"), "Name of the processes in ps and top.", PROCESSES
    )

    # -- Reloading
    reload: bool = setting(False, Flag(), "Start anew when a source file changes.", RELOADING)
    reload_dir: tuple[str, ...] = setting(
        (), Words("DIR"), "Folder to watch; default: the application's. May be repeated.", RELOADING
    )
    reload_include: tuple[str, ...] = setting(
        ("*.py",), Words("GLOB"), "Names of files to watch. May be repeated.", RELOADING
    )
    reload_exclude: tuple[str, ...] = setting(
        (".*", "__pycache__", "node_modules", "*.egg-info"),
        Words("GLOB"),
        "Names of files and folders not to watch. May be repeated.",
        RELOADING,
    )
    reload_delay: float = setting(
        0.25, Duration(0.01, 3600), "Pause between two looks at the files.", RELOADING
    )

    # -- Logging
    log_level: str = setting("info", Choice(LOG_LEVELS), "Least severe messages shown.", LOGGING)
    access_log: bool = setting(True, Flag(), "One line for each request.", LOGGING)
    access_log_format: str = setting(
        access_format.UVICORN,
        Text("FORMAT", access_format.check),
        "Form of the lines: uvicorn, common, combined, json, or a text with {fields} ({duration}).",
        LOGGING,
    )
    access_log_buffer: int = setting(
        2**20,
        Size(0, _UINT32),
        "Bytes of lines that wait for a slow reader; more are dropped. 0: requests wait.",
        LOGGING,
    )
    log_config: str | dict[str, Any] | None = setting(  # noqa: RUF009
        None, LogConfig(), "Python's logging configuration: .json, .yaml or .ini.", LOGGING
    )
    use_colors: bool | None = setting(
        None, Flag(), "Coloured log; default: on a terminal.", LOGGING
    )
    announce: bool = setting(
        False, Flag(), "Say at the start what is served and where; always on a terminal.", LOGGING,
        command_line=False,
    )  # fmt: skip

    request_id: bool = setting(
        False, Flag(), "Give each request an ID, in its scope and in the log.", LOGGING
    )
    request_id_header: str | None = setting(
        None,
        Text("NAME", _field_name),
        "Field in which trusted proxies send a request's ID, such as X-Request-ID.",
        LOGGING,
    )
    request_id_response: str | None = setting(
        None, Text("NAME", _field_name), "Field of the response that carries the ID.", LOGGING
    )

    # -- Metrics
    metrics: str | None = setting(
        None,
        Text("ADDRESS", addresses.checked),
        "Address that serves /metrics (for Prometheus), /-/status, /-/live and /-/ready: HOST:PORT "
        "or unix:PATH.",
        METRICS,
    )
    metrics_routes: int = setting(
        1024,
        Number(1, 65536),
        "Routes (each with a method) that are counted one by one.",
        METRICS,
    )

    # -- HTTP
    http2: bool = setting(
        True, Flag(), "Speak HTTP/2 with clients that want to, if it was built in.", HTTP
    )
    server_header: bool = setting(True, Flag(), "Send `server: turboapi`.", HTTP)
    date_header: bool = setting(True, Flag(), "Send `date`.", HTTP)
    header: tuple[str, ...] = setting(
        (),
        Lines("'NAME: VALUE'", _header),
        "Field that is added to responses. May be repeated.",
        HTTP,
    )
    proxy_headers: bool = setting(
        True, Flag(), "Believe X-Forwarded-For and -Proto of trusted proxies.", HTTP
    )
    proxy_protocol: bool = setting(
        False, Flag(), "Connections come from trusted proxies that speak the PROXY protocol.", HTTP
    )
    forwarded_allow_ips: tuple[str, ...] = setting(
        ("127.0.0.1", "::1"),
        Words("ADDRESSES", _proxies),
        "Trusted proxies: addresses, networks, 'unix' for the peers of unix sockets, '*' for all; "
        "with commas between.",
        HTTP,
        also_env=("FORWARDED_ALLOW_IPS",),
    )

    compress: tuple[str, ...] = setting(
        (),
        _Codings("CODINGS"),
        "Compress responses: all, or zstd, br, gzip by preference, with levels (br:5) if you like.",
        HTTP,
    )
    compress_min_size: int = setting(
        MINIMUM_SIZE, _size, "Smallest body that is compressed, where its size is known.", HTTP
    )
    compress_type: tuple[str, ...] = setting(
        TYPES,
        Words("TYPE", _media_type),
        "Media types that are compressed: text/html, text/*, +json. May be repeated.",
        HTTP,
    )

    request_encoding: str = setting(
        "pass",
        Choice(("pass", "refuse", "decode")),
        "Bodies with a Content-Encoding: left to the application, answered 415, or decoded.",
        HTTP,
    )
    static_path: tuple[str, ...] = setting(
        (),
        Words("PREFIX=DIR", static_paths.parse),
        "Folder whose files the server sends itself, in front of the application. May be repeated.",
        HTTP,
    )
    static_html: bool = setting(
        False, Flag(), "There, index.html is sent for its folder, 404.html for what is missing.",
        HTTP,
    )  # fmt: skip
    static_precompressed: bool = setting(
        False, Flag(), "There, send FILE.zst, .br or .gz in place of FILE where it is accepted.",
        HTTP,
    )  # fmt: skip

    # -- Limits: src/http/http_limits.h has their defaults
    limit_request_line: int = _limit("Bytes of the request line.", "request_line", Size)
    limit_header_bytes: int = _limit("Bytes of all header fields.", "header_bytes", Size)
    limit_header_count: int = _limit("Header fields.", "header_count")
    limit_body_bytes: int = _limit("Bytes of a request's body.", "body_bytes", Size)
    limit_trailer_bytes: int = _limit("Bytes of trailer fields.", "trailer_bytes", Size)
    limit_chunk_ext_bytes: int = _limit(
        "Bytes of a chunk-size line with extensions.", "chunk_ext_bytes", Size
    )
    limit_pipelined: int = _limit(
        "Requests of a connection, pipelined or HTTP/2's, that begin before others get their turn.",
        "pipelined",
    )
    limit_body_buffer: int = _limit(
        "Bytes of a body held before reading pauses.", "body_buffer", Size
    )
    limit_write_buffer: int = _limit(
        "Bytes of a response held before writers must wait.", "write_buffer", Size
    )
    limit_unsent: int = _limit(
        "Bytes that the kernel holds of a response before the client can take them (TCP).",
        "unsent",
        Size,
    )
    limit_receive_rate: int = _limit(
        "Bytes a second of a body that a client must send on average, or timeout-body ends it.",
        "receive_rate",
        Size,
    )
    limit_send_rate: int = _limit(
        "Bytes a second of a response that a client must take, or timeout-write ends it.",
        "send_rate",
        Size,
    )
    limit_connections: int = _limit("Connections open at once, per worker.", "connections")
    limit_requests_per_conn: int = _limit(
        "Requests on one connection before it is closed.", "requests_per_conn"
    )

    limit_decoded_bytes: int = setting(
        2**26, Size(0, 2**63 - 1), "Decoded bytes of a body that request-encoding decodes.",
        LIMITS,
    )  # fmt: skip
    limit_decoded_ratio: int = setting(
        200, _count, "Decoded bytes for each byte of such a body, beyond the first MiB.", LIMITS
    )
    limit_concurrency: int = setting(
        0, _count, "Requests in flight, per event loop; further ones get 503.", LIMITS
    )

    # -- Limits of HTTP/2
    limit_h2_streams: int = _http2(
        "Requests that a client may have open on one connection.", "h2_streams"
    )
    limit_h2_stream_window: int = _http2(
        "Bytes of a body that may be sent before the application reads them.",
        "h2_stream_window",
        Size,
    )
    limit_h2_conn_window: int = _http2(
        "The same for all bodies of a connection together.", "h2_conn_window", Size
    )
    limit_h2_resets: int = _http2(
        "Streams that a client may reset; the allowance refills within ten seconds.", "h2_resets"
    )
    limit_h2_control_frames: int = _http2(
        "Frames without a request that a client may send, beyond those that responses call for.",
        "h2_control_frames",
    )
    limit_h2_continuations: int = _http2(
        "CONTINUATION frames of one header block.", "h2_continuations"
    )

    # -- Timeouts: src/http/http_limits.h has the defaults of the first five
    timeout_handshake: float = _timeout("Time for the handshake of TLS.", "timeout_handshake_ms")
    timeout_header: float = _timeout(
        "Time for a request's head, from its first byte.", "timeout_header_ms"
    )
    timeout_body: float = _timeout(
        "Longest pause in a request's body, and time beyond its receive rate.", "timeout_body_ms"
    )
    timeout_idle: float = _timeout(
        "Time that a connection may be idle between two requests.",
        "timeout_idle_ms",
        "--timeout-keep-alive",
    )
    timeout_write: float = _timeout(
        "Longest pause of a client in taking a response, and time beyond its send rate.",
        "timeout_write_ms",
    )
    timeout_graceful_shutdown: float = setting(
        30.0,
        _duration,
        "Time for requests in flight to finish when the server is told to stop.",
        TIMEOUTS,
    )
    timeout_stream_shutdown: float = setting(
        1.0,
        _duration,
        "The same for streams, whose clients then count as gone. WebSockets are closed at once.",
        TIMEOUTS,
    )
    timeout_worker_start: float = setting(
        60.0, _duration, "Time for a new worker to become ready, in a reload on SIGHUP.", TIMEOUTS
    )
    timeout_worker: float = setting(
        30.0,
        _duration,
        "Time after which a worker is replaced whose event loop makes no step.",
        TIMEOUTS,
    )

    timeout_loop_stall: float = setting(
        1.0,
        _duration,
        "Time that one step may hold the event loop before the log names the line.",
        TIMEOUTS,
    )

    # -- WebSockets: src/http/http_limits.h has the defaults, but of the last
    ws_max_size: int = _websocket(
        "Bytes of a message received, decompressed.", "ws_max_size", _size
    )
    ws_max_queue: int = _websocket(
        "Messages that may wait for the application.", "ws_max_queue", _count
    )
    ws_ping_interval: float = _websocket(
        "Time between two pings to a client.", "ws_ping_interval_ms", _duration
    )
    ws_ping_timeout: float = _websocket(
        "Time for a client to answer a ping.", "ws_ping_timeout_ms", _duration
    )
    ws_close_timeout: float = _websocket(
        "Time for a client to answer a close.", "ws_close_timeout_ms", _duration
    )
    ws_per_message_deflate: bool = setting(
        True, Flag(), "Compress messages with clients that can.", WEBSOCKETS
    )

    # -- Set by the supervisor for its workers
    metrics_fd: int | None = setting(
        None, Number(0, _UINT32), "Memory that all workers count in.", METRICS, command_line=False
    )
    metrics_listen_fd: int | None = setting(
        None, Number(0, _UINT32), "Socket of the metrics.", METRICS, command_line=False
    )
    ready_fd: int | None = setting(
        None,
        Number(0, _UINT32),
        "Pipe: the server writes a byte once it accepts connections, and then as a heartbeat.",
        PROCESSES,
        command_line=False,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = described(field).parse(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        # Those of the first that has them, for whoever asks for the server's host.
        for each in reversed([addresses.parse(text) for text in self.bind]):
            for name in each.keys() & {"host", "port"}:
                object.__setattr__(self, name, each[name])
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.uds is not None and self.fd is not None:
            raise ConfigError("uds", "can't be used together with {}: give one of them", "fd")
        # One that `addresses` made has both.
        own = addresses.parse(self.bind[0]) if len(self.bind) == 1 else {"uds": None, "fd": None}
        if self.bind and (self.uds, self.fd) not in ((None, None), (own["uds"], own["fd"])):
            raise ConfigError("bind", "can't be used together with {} or {}", "uds", "fd")
        if self.proxy_protocol and not self.forwarded_allow_ips:
            raise ConfigError(
                "proxy_protocol", "needs trusted proxies in {}", "forwarded_allow_ips"
            )
        if self.max_requests_jitter and not self.max_requests:
            raise ConfigError("max_requests_jitter", "needs {}", "max_requests")
        if self.reload and (name := next((n for n in _REPLACING if getattr(self, n)), None)):
            raise ConfigError(name, "can't be used together with {}", "reload")
        static_paths.read(self)
        for name in ("static_html", "static_precompressed"):
            if getattr(self, name) and not self.static_path:
                raise ConfigError(name, "needs {}", "static_path")
        self._check_tls()
        self._check_further_addresses()
        if self.reload and self.workers > 1:
            raise ConfigError("reload", "can't be used with more than one worker")
        if 0 < self.timeout_loop_stall < 0.01:
            raise ConfigError("timeout_loop_stall", "below 10 ms every request is one; 0: none is")
        if 0 < self.timeout_worker < 1:
            raise ConfigError(
                "timeout_worker", "below 1 second busy workers would be replaced; 0: none is"
            )
        unix = self.uds is not None or any(each.startswith("unix:") for each in self.bind)
        if self.uds_permissions is not None and not unix and self.fd is None:
            raise ConfigError("uds_permissions", "needs {}", "uds")
        for name in ("limit_request_line", "limit_header_bytes"):
            if 0 < getattr(self, name) < _LEAST_HEAD:
                raise ConfigError(name, f"below {_LEAST_HEAD} bytes no request fits")
        for name in ("limit_body_buffer", "limit_write_buffer"):
            if 0 < getattr(self, name) < _LEAST_BUFFER:
                raise ConfigError(name, f"below {_LEAST_BUFFER} bytes nothing goes on; 0: no limit")

    def _check_tls(self) -> None:
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ConfigError("ssl_keyfile", "needs {}", "ssl_certfile")
        if self.ssl_keyfile and len(self.ssl_keyfile) != len(self.ssl_certfile):
            raise ConfigError(
                "ssl_keyfile",
                f"{len(self.ssl_keyfile)} given for {len(self.ssl_certfile)} of {{}}",
                "ssl_certfile",
            )
        if self.ssl_cert_reqs != "none" and self.ssl_certfile and self.ssl_ca_certs is None:
            raise ConfigError("ssl_ca_certs", "is needed to check the certificates of clients")
        if self.redirect_http is not None and self.uds is not None:
            raise ConfigError("redirect_http", "can't be used together with {}", "uds")
        if self.ssl_certfile:
            return
        for name in (
            "ssl_ca_certs", "ssl_crl", "ssl_ciphers", "ssl_keyfile_password", "redirect_http"
        ):  # fmt: skip
            if getattr(self, name) is not None:
                raise ConfigError(name, "needs {}", "ssl_certfile")
        if self.ssl_cert_reqs != "none":
            raise ConfigError("ssl_cert_reqs", "needs {}", "ssl_certfile")

    def _check_further_addresses(self) -> None:
        """Compare what listens besides the server with the addresses of that."""
        own = [addresses.parse(text) for text in self.bind]
        if not own and self.fd is None:
            own = [{"uds": self.uds, "host": self.host, "port": self.port}]
        own_name = "bind" if self.bind else "port" if self.uds is None else "uds"
        redirect = {"uds": None, "host": self.host, "port": self.redirect_http}
        if any(addresses.collide(redirect, each) for each in own):
            raise ConfigError("redirect_http", "must be another port than {}", own_name)
        if self.metrics is None:
            return
        shown = addresses.parse(self.metrics)
        if any(addresses.collide(shown, each) for each in own):
            raise ConfigError(
                "metrics", f"{self.metrics} is the server's own address (of {{}})", own_name
            )
        if addresses.collide(shown, redirect):
            raise ConfigError("metrics", f"{self.metrics} is that of {{}}, too", "redirect_http")

    @classmethod
    def load(
        cls,
        values: Mapping[str, Any],
        environ: Mapping[str, str] | None = None,
        *,
        defaults: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a Config of given values, then the environment, then defaults.

        Args:
            values: by name of the setting; a value of None counts as not given.
            environ: default `os.environ`.
            defaults: replace the defaults of the settings.

        Raises:
            ConfigError: naming the setting, or the environment variable that holds it.
        """
        environ = os.environ if environ is None else environ
        known = settings()
        for name in values:
            if name not in known:
                raise ConfigError(name, "there is no such setting")
        other = next((n for n in ("uds", "fd", "bind") if values.get(n) not in (None, ())), None)
        if other is not None:
            for name in ("host", "port"):
                if values.get(name) is not None:
                    raise ConfigError(name, "can't be used together with {}", other)
        chosen: dict[str, Any] = dict(defaults or {})
        for name, one in known.items():
            if (value := values.get(name)) is not None:
                chosen[name] = one.parse(name, value)
                continue
            for variable in (ENV_PREFIX + name.upper(), *one.also_env):
                if (text := environ.get(variable)) not in (None, ""):
                    chosen[name] = one.parse(variable, text)
                    break
        return cls(**chosen)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values, checked again."""
        return dataclasses.replace(self, **changes)

    def addresses(self) -> list[Self]:
        """Return a copy for each address to listen on; each has one in host and port, uds or fd."""
        if not self.bind:
            return [self]
        found: list[Self] = []
        for text in self.bind:
            one = addresses.parse(text)
            mode = self.uds_permissions if one["uds"] is not None else None
            found.append(
                self.replace(bind=(text,), redirect_http=None, uds_permissions=mode, **one)
            )
        return found

    def served_by(self, bound: list[socket.socket]) -> Self:
        """Return a copy that has the descriptors of these sockets for its addresses."""
        return self.replace(
            uds=None,
            uds_permissions=None,
            fd=None,
            bind=[f"fd://{each.fileno()}" for each in bound],
        )

    def more_headers(self) -> list[tuple[bytes, bytes]]:
        """Return what `header` adds to responses, as ASGI has it."""
        pairs = [each.partition(":") for each in self.header]
        return [(name.strip().lower().encode(), text.strip().encode()) for name, _, text in pairs]

    def compression(self) -> tuple[Any, ...] | None:
        """Return the filter of `_core` that packs responses; None: they stay as they are."""
        codings = read_codings(self.compress)
        if not codings:
            return None
        return Compression(codings, self.compress_min_size, read_types(self.compress_type)).filter()

    def http_limits(self) -> dict[str, int]:
        """Return the members of `ta_http_limits` by name; times in milliseconds, rounded up."""
        limits: dict[str, int] = {}
        for name, one in settings().items():
            if one.c_field is None:
                continue
            value = getattr(self, name)
            limits[one.c_field] = (
                -int(-value * 1000 // 1) if one.c_field.endswith("_ms") else int(value)
            )
        return limits

    def address(self) -> str:
        """Return where the server listens, for messages."""
        if self.bind:
            return ", ".join(self.bind)
        if self.fd is not None:
            return f"descriptor {self.fd}"
        if self.uds is not None:
            return f"unix:{self.uds}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme()}://{host}:{self.port}"

    def scheme(self) -> str:
        """Return "https" when the server encrypts, else "http"."""
        return "https" if self.ssl_certfile else "http"


def described(field: dataclasses.Field[Any]) -> Setting:
    """Return what is declared about a field of `Config`."""
    found: Setting = field.metadata[METADATA_KEY]
    return found


def settings() -> dict[str, Setting]:
    """Return all settings by name, in the order of their declaration."""
    return {field.name: described(field) for field in dataclasses.fields(Config)}
