"""TLS from the settings: what the C core needs of them, and certificates that are renewed.

A certificate is read anew when one of its files changes, so that what renews them (certbot, a
mounted secret) needs not tell us. Connections that are open keep the one that they began with.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from turboapi import _core
from turboapi._serving.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from turboapi.config import Config

logger = logging.getLogger("turboapi.server")

# What ALPN offers, in the wire's format: each name with its length before it.
_HTTP_1 = b"\x08http/1.1"
_HTTP_2 = b"\x02h2"
_VERIFY = {"none": 0, "optional": 1, "required": 2}
# Seconds between two looks at the files.
LOOK = 5.0
# Seconds that a start waits at most for files that keep changing.
_PATIENCE = 10.0
# Of a certificate's last days the log tells.
_DAY = 86400
_WARN_DAYS = 7


def make(config: Config) -> _core.TLS | None:
    """Return what the server needs to encrypt; None: it does not.

    Raises:
        ConfigError: a file can't be used; the message names the setting, the file and the reason.
    """
    if not config.ssl_certfile:
        return None
    keys = config.ssl_keyfile or (None,) * len(config.ssl_certfile)
    try:
        return _core.TLS(
            list(zip(config.ssl_certfile, keys, strict=True)),
            password=config.ssl_keyfile_password,
            ca_certs=config.ssl_ca_certs,
            crl=config.ssl_crl,
            verify=_VERIFY[config.ssl_cert_reqs],
            ciphers=config.ssl_ciphers,
            tls13_only=config.ssl_min_version == "1.3",
            alpn=_alpn(config),
            secret=config.ssl_ticket_secret,
        )
    except ValueError as error:
        setting, why = error.args
        if setting == "certfile" and " has no private key" in why:
            why = why.replace("{", "{{").replace("}", "}}") + "; name its file with {}"
            raise ConfigError("ssl_certfile", why, "ssl_keyfile") from None
        raise ConfigError(f"ssl_{setting}", why) from None


def make_at_start(config: Config) -> _core.TLS | None:
    """As `make`, but wait while its files are being replaced: the key may be new, or not yet.

    Raises:
        ConfigError: a file can't be used, and none has changed for a second.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        before = _stamps(config)
        try:
            return make(config)
        except ConfigError:
            changing = _stamps(config) != before or any(map(_is_fresh, _files(config)))
            if not changing or time.monotonic() > end:
                raise
        time.sleep(0.1)


def _alpn(config: Config) -> bytes:
    """Return the protocols in our order of preference."""
    return _HTTP_2 + _HTTP_1 if config.http2 and _core.LIBRARIES["nghttp2"] else _HTTP_1


def tell_ends(tls: _core.TLS, config: Config) -> None:
    """Warn of certificates that have ended or will soon."""
    now = time.time()
    for number, file in enumerate(config.ssl_certfile):
        ends = tls.expires(number)
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ends))
        if ends <= now:
            logger.warning("The certificate in %s ended on %s: clients refuse it", file, when)
        elif ends < now + _WARN_DAYS * _DAY:
            logger.warning("The certificate in %s ends on %s", file, when)


class Renewal:
    """Looks at the files of certificates and passes on what was made of new ones."""

    def __init__(self, config: Config, use: Callable[[_core.TLS], None]) -> None:
        self._config = config
        self._use = use
        self._seen = _stamps(config)
        self._failed = ""

    async def run(self, look: float = LOOK) -> None:
        """Run until it is cancelled, on the event loop of the server."""
        while True:
            await asyncio.sleep(look)
            stamps = await asyncio.to_thread(_stamps, self._config)
            if stamps != self._seen:
                await self._renew(stamps)

    async def _renew(self, stamps: list[tuple[int, ...]]) -> None:
        try:
            tls = await asyncio.to_thread(make, self._config)
        except ConfigError as error:
            # Its files may be replaced one after the other: the next look may find the second.
            if str(error) != self._failed:
                self._failed = str(error)
                logger.error(
                    "The new certificate is not used (process %d): %s", os.getpid(), error.reason
                )
            return
        if tls is not None:
            self._use(tls)
            self._seen, self._failed = stamps, ""
            logger.info("Reloaded %s", ", ".join(self._config.ssl_certfile))
            tell_ends(tls, self._config)


def _files(config: Config) -> list[str]:
    more = (file for file in (config.ssl_ca_certs, config.ssl_crl) if file)
    return [*config.ssl_certfile, *config.ssl_keyfile, *more]


def _stamps(config: Config) -> list[tuple[int, ...]]:
    """Return what changes when a file is written or replaced."""
    return [_stamp(file) for file in _files(config)]


def _is_fresh(file: str) -> bool:
    """Return whether it was written or put into its place within the last second."""
    with suppress(OSError):
        return 0 <= time.time() - Path(file).stat().st_ctime < 1
    return False


def _stamp(file: str) -> tuple[int, ...]:
    with suppress(OSError):
        status = Path(file).stat()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return ()
