"""What the routes depend on: the database, the user, the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

import aiosqlite
import jwt
from pwdlib import PasswordHash

from turboapi import Depends, HTTPException, Request, Security, status
from turboapi.security import OAuth2PasswordBearer, SecurityScopes

from .db import first
from .models import User
from .settings import Settings

passwords = PasswordHash.recommended()
oauth2 = OAuth2PasswordBearer(
    tokenUrl="token", scopes={"shop": "Order goods.", "admin": "Change the shop's goods."}
)


def get_settings(request: Request) -> Settings:
    """Return the settings that the lifespan loaded."""
    return request.app.state.settings


async def get_db(request: Request) -> AsyncIterator[aiosqlite.Connection]:
    """A connection for this request."""
    async with request.app.state.pool.connection() as connection:
        yield connection


SettingsDep = Annotated[Settings, Depends(get_settings)]
Database = Annotated[aiosqlite.Connection, Depends(get_db)]


@lru_cache(maxsize=1)
def _unknown_user_hash() -> str:
    return passwords.hash("no such user")


def check_password(password: str, stored: str | None) -> bool:
    """Verify a password; this takes as long when there is no such user."""
    return passwords.verify(password, stored or _unknown_user_hash()) and stored is not None


def make_token(user: User, settings: Settings) -> str:
    """Return a signed token that names the user and what it may do."""
    now = datetime.now(UTC)
    scopes = ["shop", "admin"] if user.role == "admin" else ["shop"]
    claims = {
        "sub": str(user.id),
        "scope": " ".join(scopes),
        "iat": now,
        "exp": now + timedelta(minutes=settings.token_minutes),
    }
    return jwt.encode(claims, settings.secret, algorithm="HS256")


async def current_user(
    scopes: SecurityScopes,
    token: Annotated[str, Depends(oauth2)],
    db: Database,
    settings: SettingsDep,
) -> User:
    """Return the user whom the bearer token names, when its scopes suffice."""
    challenge = f'Bearer scope="{scopes.scope_str}"' if scopes.scopes else "Bearer"
    unauthorized = HTTPException(
        status.HTTP_401_UNAUTHORIZED,
        "The token is not valid; log in again.",
        {"WWW-Authenticate": challenge},
    )
    try:
        claims = jwt.decode(token, settings.secret, algorithms=["HS256"])
        user_id = int(claims["sub"])
    except (jwt.InvalidTokenError, KeyError, ValueError):
        raise unauthorized from None
    granted = claims.get("scope", "").split()
    if any(scope not in granted for scope in scopes.scopes):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            "Only the shopkeeper may do that.",
            {"WWW-Authenticate": challenge},
        )
    row = await first(db, "SELECT id, email, name, role FROM users WHERE id = ?", (user_id,))
    if row is None:
        raise unauthorized
    return User(**dict(row))


Customer = Annotated[User, Security(current_user, scopes=["shop"])]
Admin = Annotated[User, Security(current_user, scopes=["admin"])]
