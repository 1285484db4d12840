"""Customers: sign up, log in by the OAuth2 password flow, slowly where passwords are guessed."""

from __future__ import annotations

import math
import sqlite3
import time
from typing import Annotated

import aiosqlite
from starlette.concurrency import run_in_threadpool

from turboapi import APIRouter, BackgroundTasks, Depends, HTTPException, status
from turboapi.security import OAuth2PasswordRequestForm

from .db import first, one
from .deps import Customer, Database, SettingsDep, check_password, make_token, passwords
from .mail import send_mail
from .models import Registration, Token, User

router = APIRouter(tags=["users"])


@router.post("/users", response_model=User, status_code=status.HTTP_201_CREATED)
async def register(
    new: Registration, db: Database, settings: SettingsDep, background: BackgroundTasks
) -> User:
    """Signs a customer up."""
    hashed = await run_in_threadpool(passwords.hash, new.password)  # slow by design
    try:
        cursor = await db.execute(
            "INSERT INTO users (email, name, password_hash) VALUES (?, ?, ?)",
            (new.email, new.name, hashed),
        )
    except sqlite3.IntegrityError:
        raise HTTPException(status.HTTP_409_CONFLICT, "This address has an account.") from None
    background.add_task(send_mail, settings.mail_log, new.email, "Welcome", f"Hello {new.name}!")
    return User(id=cursor.lastrowid or 0, email=new.email, name=new.name, role="customer")


async def slow_down(db: aiosqlite.Connection, email: str) -> None:
    """Count a try to log in, or refuse it with 429 when it comes too soon after others that failed.

    The first three are free; after them one must wait 2, 4, 8, ... seconds, up to a minute. It is
    counted before the password is looked at, so that many at once are no way round.
    """
    now = time.time()
    counted = await first(
        db,
        "INSERT INTO failed_logins (email, failures, next_try) VALUES (?1, 1, 0)"
        " ON CONFLICT (email) DO UPDATE SET failures = failures + 1, next_try ="
        " CASE WHEN failures < 2 THEN 0 ELSE ?2 + min(60, 1 << min(failures - 1, 6)) END"
        " WHERE next_try <= ?2 RETURNING failures",
        (email, now),
    )
    if counted is None:
        query = "SELECT next_try - ? FROM failed_logins WHERE email = ?"
        wait = max(1, math.ceil((await one(db, query, (now, email)))[0]))
        raise HTTPException(
            status.HTTP_429_TOO_MANY_REQUESTS,
            f"That was wrong too often. Try again in {wait} s.",
            {"Retry-After": str(wait)},
        )


@router.post("/token")
async def log_in(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], db: Database, settings: SettingsDep
) -> Token:
    """Return a bearer token for address and password."""
    await slow_down(db, form.username)
    row = await first(db, "SELECT * FROM users WHERE email = ?", (form.username,))
    stored = row["password_hash"] if row else None
    if not await run_in_threadpool(check_password, form.password, stored) or row is None:
        raise HTTPException(
            status.HTTP_401_UNAUTHORIZED,
            "Address or password is wrong.",
            {"WWW-Authenticate": "Bearer"},
        )
    await db.execute("DELETE FROM failed_logins WHERE email = ?", (form.username,))
    user = User(id=row["id"], email=row["email"], name=row["name"], role=row["role"])
    return Token(access_token=make_token(user, settings), expires_in=settings.token_minutes * 60)


@router.get("/users/me")
async def me(user: Customer) -> User:
    """Who the token names."""
    return user
