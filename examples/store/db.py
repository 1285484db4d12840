"""SQLite through aiosqlite: a small pool of connections, migrations, and the first goods."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

MIGRATIONS = Path(__file__).resolve().parent / "migrations"

ADMIN = "admin@example.com"
GOODS = [
    (
        "Teapot",
        "Short and stout; holds 1.2 litres and refuses to brew coffee (418).",
        3490,
        12,
        ["kitchen"],
    ),
    (
        "Fast kettle",
        "Boils before you have finished reading this line.",
        4990,
        8,
        ["kitchen", "fast"],
    ),
    ("Pocket lathe", "Turns anything up to the size of a chess king.", 18900, 3, ["workshop"]),
    ("Copper lamp", "Warm light, two levels, no app.", 7250, 20, ["home"]),
    ("Field notebook", "192 dotted pages, lies flat, survives rain.", 1290, 150, ["paper"]),
    ("Night train print", "Two-colour risograph, 50 by 70 cm.", 2900, 40, ["paper", "home"]),
    ("Wool blanket", "Grey with a red stripe, woven in one piece.", 11900, 9, ["home"]),
    ("Torque wrench", "2 to 20 Nm, clicks with conviction.", 8600, 14, ["workshop"]),
]


async def first(
    db: aiosqlite.Connection, query: str, values: Iterable[Any] = ()
) -> aiosqlite.Row | None:
    """Return the first row of a query, if there is one."""
    async with db.execute(query, values) as cursor:
        return await cursor.fetchone()


async def one(db: aiosqlite.Connection, query: str, values: Iterable[Any] = ()) -> aiosqlite.Row:
    """Return the first row of a query that always has one."""
    row = await first(db, query, values)
    assert row is not None
    return row


class Pool:
    """A fixed number of connections to one SQLite file (WAL: many readers, one writer)."""

    def __init__(self, path: Path, size: int = 4) -> None:
        self._path = path
        self._size = size
        self._free: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._all: list[aiosqlite.Connection] = []

    async def open(self) -> None:
        """Open the connections and bring the schema up to date."""
        for _ in range(self._size):
            connection = await aiosqlite.connect(self._path, isolation_level=None)
            connection.row_factory = aiosqlite.Row
            # First: with several workers, one makes the file and the others wait for it.
            for pragma in ("busy_timeout=5000", "journal_mode=WAL", "foreign_keys=ON"):
                await connection.execute(f"PRAGMA {pragma}")
            self._all.append(connection)
            self._free.put_nowait(connection)
        await self._migrate()

    async def _migrate(self) -> None:
        """Run the migrations that the file has not seen: `user_version` is that of the last one."""
        async with self.connection() as db:
            await db.execute("BEGIN IMMEDIATE")  # another worker may be about to do the same
            (version,) = await one(db, "PRAGMA user_version")
            for file in sorted(MIGRATIONS.glob("*.sql")):
                number = int(file.name.partition("_")[0])
                if number > version:
                    for statement in file.read_text().split(";"):
                        await db.execute(statement)
                    await db.execute(f"PRAGMA user_version = {number}")
            await db.commit()

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            await connection.close()
        self._all.clear()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[aiosqlite.Connection]:
        """One connection, given back at the end; an open transaction is rolled back."""
        connection = await self._free.get()
        try:
            yield connection
        finally:
            # Always: what a cancelled request has begun in the connection's thread may be running.
            await connection.rollback()
            self._free.put_nowait(connection)

    async def seed(self, admin_hash: str) -> None:
        """Put the first goods and the shopkeeper into an empty shop."""
        async with self.connection() as db:
            await db.execute("BEGIN IMMEDIATE")
            (users,) = await one(db, "SELECT count(*) FROM users")
            if users == 0:
                await db.execute(
                    "INSERT INTO users (email, name, role, password_hash)"
                    " VALUES (?, ?, 'admin', ?)",
                    (ADMIN, "Shopkeeper", admin_hash),
                )
                await db.executemany(
                    "INSERT INTO products (name, description, price, stock, tags)"
                    " VALUES (?, ?, ?, ?, ?)",
                    [(n, d, p, s, json.dumps(t)) for n, d, p, s, t in GOODS],
                )
            await db.commit()
