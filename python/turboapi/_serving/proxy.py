"""Who the client is behind a proxy: X-Forwarded-For and X-Forwarded-Proto of trusted peers."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEMES = {"http", "https", "ws", "wss"}
_LONGEST_NAME = 253


class ProxyHeaders:
    """Corrects a scope's `client` and `scheme`, in place; called for requests with such headers.

    Args:
        trusted: addresses, networks (`10.0.0.0/8`) or other names of peers; "unix": those of unix
            sockets, which have no address; "*": all of them.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        entries = [part.strip() for entry in trusted for part in entry.split(",")]
        self._all = "*" in entries
        self._unix = "unix" in entries
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._names: set[str] = set()
        for entry in entries:
            if entry in ("", "*", "unix"):
                continue
            try:
                self._networks.append(ipaddress.ip_network(entry))
            except ValueError:
                self._names.add(entry)
        self._known = functools.lru_cache(maxsize=1024)(self._find)

    def __call__(self, scope: dict[str, Any]) -> None:
        client = scope.get("client")
        if not self.trusts(client[0] if client else None):
            return
        protocol = None
        chain: list[bytes] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                chain.append(value)
            elif name == b"x-forwarded-proto":
                protocol = value.decode("latin1").strip()
        if protocol in _SCHEMES:
            if scope["type"] == "websocket":
                protocol = protocol.replace("http", "ws")
            scope["scheme"] = protocol
        if chain:
            host, port = self._first_untrusted(b",".join(chain).decode("latin1"))
            if host:
                scope["client"] = (host, port)

    def trusts(self, host: str | None) -> bool:
        """Return whether what this peer says is believed."""
        if self._all:
            return True
        return self._is_named(host) if host else self._unix

    def _is_named(self, host: str) -> bool:
        # Nothing so long is an address; it would only fill the cache.
        return self._find(host) if len(host) > _LONGEST_NAME else self._known(host)

    def _find(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host in self._names
        return any(address in network for network in self._networks)

    def _first_untrusted(self, chain: str) -> tuple[str, int]:
        """From the right, each proxy having added the peer it saw."""
        hops = [hop.strip() for hop in chain.split(",")]
        if not self._all:
            for hop in reversed(hops):
                host, port = _split_port(hop)
                if not self._is_named(host):
                    return host, port
        return _split_port(hops[0])


def _split_port(text: str) -> tuple[str, int]:
    """`1.2.3.4:80`, `[::1]:80` or an address alone (port 0); whatever else stays as it is."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return text, 0
        return host, _port(rest[1:]) or 0
    if text.count(":") == 1:
        host, _, digits = text.partition(":")
        port = _port(digits)
        return (text, 0) if port is None else (host, port)
    return text, 0


def _port(digits: str) -> int | None:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else None
