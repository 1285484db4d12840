"""What `--compress` and `CompressMiddleware` have in common: codings, levels, media types."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from turboapi import _core

if TYPE_CHECKING:
    from collections.abc import Iterable

# By preference among those that a client likes equally well: zstd costs the least time for its
# size; each level is about where the next one costs more than it saves.
LEVELS = {"zstd": 3, "br": 4, "gzip": 5}

# Media types worth packing; images, video, archives and woff2 are packed already.
TYPES = (
    "text/*",
    "+json",
    "+xml",
    "application/json",
    "application/ndjson",
    "application/x-ndjson",
    "application/jsonl",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "application/manifest+json",
    "application/vnd.ms-fontobject",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/x-icon",
)

MINIMUM_SIZE = 1024
# A larger piece is packed in a thread: that much takes some milliseconds at the highest levels.
THREAD_MINIMUM_SIZE = 65536


@dataclasses.dataclass(frozen=True)
class Compression:
    """Which responses are packed, and how.

    Attributes:
        codings: names and levels, by preference.
        minimum_size: of a body whose size is known.
        types: media types.
        thread_minimum_size: of a piece that is packed in a thread.
    """

    codings: tuple[tuple[str, int], ...]
    minimum_size: int
    types: tuple[bytes, ...]
    thread_minimum_size: int = THREAD_MINIMUM_SIZE

    def filter(self) -> tuple[Any, ...]:
        """Return what `_core` has for it (src/py/server/filters.h)."""
        from turboapi._compression_threads import in_thread  # lazy: not for settings

        return (
            "compress",
            self.minimum_size,
            self.codings,
            self.thread_minimum_size,
            self.types,
            in_thread,
        )


def read_codings(texts: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Return names and levels of texts such as "br:5" and "gzip", or "all".

    Raises:
        ValueError: there is no such coding, here or at all, or no such level.
    """
    found: dict[str, int] = {}
    for text in texts:
        if text in ("all", "on"):
            found |= {name: LEVELS[name] for name in LEVELS if name in _core.CODINGS}
            continue
        name, colon, digits = text.strip().lower().partition(":")
        if name not in LEVELS:
            raise ValueError(f"must be all, or some of {', '.join(LEVELS)}, got {text!r}")
        if name not in _core.CODINGS:
            raise ValueError(f"this build has no {name}: its library was not there")
        _version, lowest, highest = _core.CODINGS[name]
        level = int(digits) if digits.isdecimal() and digits.isascii() else None
        if colon and (level is None or not max(lowest, 0) <= level <= highest):
            raise ValueError(f"{name} has levels of {max(lowest, 0)} to {highest}, got {text!r}")
        found[name] = LEVELS[name] if level is None else level
    return tuple(found.items())


def read_types(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Return media types in lower case.

    Raises:
        ValueError: one is neither "major/minor", "major/*" nor "+suffix".
    """
    types: list[bytes] = []
    for text in texts:
        name = text.strip().lower()
        if not name.isascii() or name.count("/") != (not name.startswith("+")) or len(name) < 2:
            raise ValueError(f"must be media types such as text/html, text/* or +json: {text!r}")
        types.append(name.encode())
    return tuple(types)
