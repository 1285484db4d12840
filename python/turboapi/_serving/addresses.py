"""Addresses as `--bind` takes them.

127.0.0.1:8000  [::1]:8000  :8000 (all addresses)  example.org:80
unix:/run/shop.sock         a path
fd://3                      a descriptor that was inherited
systemd:web                 the sockets of that name that systemd passed (FileDescriptorName=)
"""

from __future__ import annotations

import re
from typing import Any

UNIX, DESCRIPTOR, SYSTEMD = "unix:", "fd://", "systemd:"

_INET = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\[\]:/\s]*)):(?P<port>\d{1,5})")
_DESCRIPTOR = re.compile(r"fd://(\d{1,9})")
_WORDS = "must be HOST:PORT, [IPV6]:PORT, unix:PATH, fd://N or systemd:NAME"

_LOCAL = {"localhost": "127.0.0.1"}
_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104


def check(text: str) -> None:
    """Raise ValueError for what is no address."""
    parse(text)


def checked(text: str) -> str:
    """Return the address of something that listens for itself: a host and port, or a path.

    Raises:
        ValueError: it is none.
    """
    if text.startswith((DESCRIPTOR, SYSTEMD)):
        raise ValueError(f"must be HOST:PORT or unix:PATH, got {text!r}")
    parse(text)
    return text


def parse(text: str) -> dict[str, Any]:
    """Return an address as the settings host and port, uds or fd; none of them for systemd's.

    Raises:
        ValueError: it is none.
    """
    if text.startswith(UNIX) and len(text) > len(UNIX):
        return {"uds": text.removeprefix(UNIX).removeprefix("//"), "fd": None}
    if text.startswith(SYSTEMD) and len(text) > len(SYSTEMD):
        return {"uds": None, "fd": None}
    if found := _DESCRIPTOR.fullmatch(text):
        return {"uds": None, "fd": int(found[1])}
    found = _INET.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f"{_WORDS}, got {text!r}")
    host = found["six"] or found["host"] or "0.0.0.0"  # noqa: S104 (as it was written)
    return {"host": host, "port": int(found["port"]), "uds": None, "fd": None}


def collide(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether nobody can listen on the one while somebody listens on the other.

    Both are as `parse` returns them.
    """
    if one["uds"] is not None or other["uds"] is not None:
        return bool(one["uds"] == other["uds"])
    if not one.get("port") or one["port"] != other.get("port"):  # 0 takes a free one
        return False
    hosts = {_LOCAL.get(each["host"], each["host"]) for each in (one, other)}
    return len(hosts) == 1 or bool(hosts & _EVERYWHERE)
