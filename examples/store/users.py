"""Customers: sign up, log in by the OAuth2 password flow."""

from __future__ import annotations

import sqlite3
from typing import Annotated

from starlette.concurrency import run_in_threadpool

from turboapi import APIRouter, BackgroundTasks, Depends, HTTPException, status
from turboapi.security import OAuth2PasswordRequestForm

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


@router.post("/token")
async def log_in(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], db: Database, settings: SettingsDep
) -> Token:
    """Return a bearer token for address and password."""
    row = await (
        await db.execute("SELECT * FROM users WHERE email = ?", (form.username,))
    ).fetchone()
    stored = row["password_hash"] if row else None
    if not await run_in_threadpool(check_password, form.password, stored) or row is None:
        raise HTTPException(
            status.HTTP_401_UNAUTHORIZED,
            "Address or password is wrong.",
            {"WWW-Authenticate": "Bearer"},
        )
    user = User(id=row["id"], email=row["email"], name=row["name"], role=row["role"])
    return Token(access_token=make_token(user, settings), expires_in=settings.token_minutes * 60)


@router.get("/users/me")
async def me(user: Customer) -> User:
    """Who the token names."""
    return user
