"""SQLite through aiosqlite: a small pool of connections, and the schema with its first goods."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE COLLATE NOCASE,
    name TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT 'customer',
    password_hash TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS products (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    price INTEGER NOT NULL CHECK (price >= 0),
    stock INTEGER NOT NULL CHECK (stock >= 0),
    tags TEXT NOT NULL DEFAULT '[]',
    image TEXT
);
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users (id),
    placed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    total INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS order_lines (
    order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    product_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    price INTEGER NOT NULL,
    quantity INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS order_lines_order ON order_lines (order_id);
"""

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


class Pool:
    """A fixed number of connections to one SQLite file (WAL: many readers, one writer)."""

    def __init__(self, path: Path, size: int = 4) -> None:
        self._path = path
        self._size = size
        self._free: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._all: list[aiosqlite.Connection] = []

    async def open(self) -> None:
        """Open the connections and make the schema."""
        for _ in range(self._size):
            connection = await aiosqlite.connect(self._path, isolation_level=None)
            connection.row_factory = aiosqlite.Row
            for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=5000"):
                await connection.execute(f"PRAGMA {pragma}")
            self._all.append(connection)
            self._free.put_nowait(connection)
        await self._all[0].executescript(SCHEMA)

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
            if connection.in_transaction:
                await connection.rollback()
            self._free.put_nowait(connection)

    async def seed(self, admin_hash: str) -> None:
        """Put the first goods and the shopkeeper into an empty shop."""
        async with self.connection() as db:
            await db.execute("BEGIN IMMEDIATE")
            row = await (await db.execute("SELECT count(*) FROM users")).fetchone()
            if row is not None and row[0] == 0:
                await db.execute(
                    "INSERT INTO users (email, name, role, password_hash)"
                    " VALUES (?, ?, 'admin', ?)",
                    ("admin@example.com", "Shopkeeper", admin_hash),
                )
                await db.executemany(
                    "INSERT INTO products (name, description, price, stock, tags)"
                    " VALUES (?, ?, ?, ?, ?)",
                    [(n, d, p, s, json.dumps(t)) for n, d, p, s, t in GOODS],
                )
            await db.commit()
