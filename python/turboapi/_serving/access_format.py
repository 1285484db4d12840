"""Formats of the access log's lines: what `access_log_format` says, as access_format.c reads it.

uvicorn   INFO:     127.0.0.1:5000 - "GET /items/7 HTTP/1.1" 200 OK
common    the Common Log Format of Apache
combined  the same with Referer and User-Agent
json      an object per line
own       a text with fields in braces: {method} {target} {status} {duration}
"""

from __future__ import annotations

import re

UVICORN = "uvicorn"

# Of a format of one's own; src/py/server/access_format.c writes their values.
FIELDS = (
    "client",
    "client_host",
    "method",
    "target",
    "protocol",
    "status",
    "duration",
    "bytes_in",
    "bytes_out",
    "request_id",
    "user_agent",
    "referer",
    "host",
    "tls_version",
    "tls_cipher",
    "route",
    "time",
    "time_clf",
    "pid",
)

_COMMON = '{client_host} - - [{time_clf}] "{method} {target} {protocol}" {status} {bytes_out}'
_KNOWN = {
    "common": _COMMON,
    "combined": _COMMON + ' "{referer}" "{user_agent}"',
}
_JSON = (
    "time",
    "client",
    "method",
    "target",
    "protocol",
    "status",
    "duration",
    "bytes_in",
    "bytes_out",
    "route",
    "request_id",
    "user_agent",
    "referer",
    "host",
    "tls_version",
    "tls_cipher",
    "pid",
)

# (json, ((text before, field, whether in quotes), ...), text after)
Spec = tuple[bool, tuple[tuple[str, str, bool], ...], str]

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_LONGEST = 1000


def spec_of(text: str) -> Spec | None:
    """Return what the C core makes lines by; None: uvicorn's.

    Raises:
        ValueError: it is no format.
    """
    word = text.strip().lower()
    if word == UVICORN:
        return None
    if word == "json":
        pieces = tuple(
            (f'{"," if n else "{"}"{name}":', name, False) for n, name in enumerate(_JSON)
        )
        return True, pieces, "}\n"
    if word in _KNOWN:
        return _own(_KNOWN[word])
    if "{" not in text:
        raise ValueError(
            "must be uvicorn, common, combined, json, or a format of your own with fields such as "
            f"{{method}}, got {text!r}"
        )
    return _own(text)


def check(text: str) -> str:
    """Return the text, if it is a format; else raise ValueError."""
    spec_of(text)
    return text


def _key(name: str) -> str:
    return f'{"{" if name == _JSON[0] else ","}"{name}":'


def _own(text: str) -> Spec:
    if len(text) > _LONGEST:
        raise ValueError(f"must have at most {_LONGEST} characters")
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    pieces: list[tuple[str, str, bool]] = []
    before, quoted = "", False
    for part in _PART.finditer(text):
        name = part[1]
        if name is None:
            if part[0] in ("{", "}"):
                raise ValueError(f"has a {part[0]} without its counterpart: {text!r}")
            literal = {"{{": "{", "}}": "}"}.get(part[0], part[0])
            quoted ^= bool(literal.count('"') % 2)
            before += literal
        elif name not in FIELDS:
            raise ValueError(f"has no field {{{name}}}; there are {', '.join(FIELDS)}")
        else:
            pieces.append((before, name, quoted))
            before = ""
    return False, tuple(pieces), before + "\n"
