"""Where the shop keeps its things; every value can come from the environment (STORE_*)."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

DEMO_PASSWORD = "admin"
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Settings:
    """Settings of one shop process."""

    data: Path
    secret: str = field(repr=False)
    token_minutes: int = 60
    max_image_bytes: int = 2 * 1024 * 1024
    admin_password: str = field(default=DEMO_PASSWORD, repr=False)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data / "store.db"

    @property
    def images(self) -> Path:
        """Uploaded product pictures."""
        return self.data / "images"

    @property
    def mail_log(self) -> Path:
        """What would have been sent by mail."""
        return self.data / "mail.log"


def _secret(data: Path) -> str:
    """Return the signing key: from the environment, else one made once and kept beside the data."""
    given = os.environ.get("STORE_SECRET")
    if given:
        return given
    path = data / "secret"
    try:
        with path.open("x") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    return path.read_text()


def load() -> Settings:
    """Read the environment and make the data folder."""
    data = Path(os.environ.get("STORE_DATA", HERE / "data")).resolve()
    (data / "images").mkdir(parents=True, exist_ok=True)
    return Settings(
        data=data,
        secret=_secret(data),
        token_minutes=int(os.environ.get("STORE_TOKEN_MINUTES", "60")),
        admin_password=os.environ.get("STORE_ADMIN_PASSWORD", DEMO_PASSWORD),
    )
