"""Certificates for development, of an authority that a browser can be told to trust."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from turboapi._serving.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTS = ("localhost", "127.0.0.1", "::1")


class Files(NamedTuple):
    """Where a certificate is: the server's, its key, and that of the authority."""

    certificate: Path
    key: Path
    authority: Path


def folder() -> Path:
    """Return where `turboapi dev --https` keeps its certificate."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "turboapi" / "https"


def make(to: Path, hosts: Sequence[str] = HOSTS, *, replace: bool = False) -> Files:
    """Write a new certificate for some hosts, its key, and that of a new authority.

    One for localhost is for its addresses, too.

    Args:
        to: the folder.
        hosts: names and addresses.
        replace: files that are there already, with whose authority clients may be familiar.

    Raises:
        ConfigError: the package that makes them is missing, or a file is there already.
        OSError: the files can't be written.
    """
    try:
        import trustme
    except ImportError:
        raise ConfigError("https", "needs the package trustme: pip install trustme") from None
    files = _files(to)
    if not replace and (there := [str(file) for file in files if os.path.lexists(file)]):
        verb = "is" if len(there) == 1 else "are"
        raise ConfigError("to", f"{', '.join(there)} {verb} there already; --force replaces them")
    if HOSTS[0] in hosts:
        hosts = list(dict.fromkeys([*hosts, *HOSTS]))
    to.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="TurboAPI development")
    certificate = authority.issue_cert(*hosts)
    _write_secret(files.key, certificate.private_key_pem.bytes())
    files.certificate.write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
    files.authority.write_bytes(authority.cert_pem.bytes())
    return files


def for_development() -> Files:
    """Return the certificate that `turboapi dev --https` uses; made the first time."""
    files = _files(folder())
    return files if all(file.is_file() for file in files) else make(folder(), replace=True)


def _files(to: Path) -> Files:
    return Files(to / "cert.pem", to / "key.pem", to / "authority.pem")


def _write_secret(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        file.write(data)
