"""Orders: placed in one transaction, confirmed by mail afterwards."""

from __future__ import annotations

from typing import Any

import aiosqlite

from turboapi import APIRouter, BackgroundTasks, HTTPException, status

from .db import first, one
from .deps import Customer, Database, SettingsDep
from .mail import send_mail
from .models import Order, OrderIn

router = APIRouter(prefix="/orders", tags=["orders"])


async def fetch(db: aiosqlite.Connection, order: aiosqlite.Row) -> dict[str, Any]:
    """Return an order with its lines."""
    lines = await db.execute_fetchall(
        "SELECT product_id, name, price, quantity FROM order_lines WHERE order_id = ?",
        (order["id"],),
    )
    return {**dict(order), "lines": [dict(line) for line in lines]}


@router.post("", response_model=Order, status_code=status.HTTP_201_CREATED)
async def place(
    order: OrderIn, user: Customer, db: Database, settings: SettingsDep, background: BackgroundTasks
) -> Any:
    """Take the goods from the stock, all or nothing, and confirm by mail."""
    wanted: dict[int, int] = {}
    for line in order.lines:
        wanted[line.product_id] = wanted.get(line.product_id, 0) + line.quantity
    # The lock for writing from the start: what is read stays true until the commit, so the last
    # one is sold once. When we leave by an exception, the pool rolls back.
    await db.execute("BEGIN IMMEDIATE")
    lines, total = [], 0
    for product_id, quantity in wanted.items():
        row = await first(db, "SELECT name, price, stock FROM products WHERE id = ?", (product_id,))
        if row is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no product {product_id}.")
        if row["stock"] < quantity:
            raise HTTPException(
                status.HTTP_409_CONFLICT, f"Only {row['stock']} of “{row['name']}” are left."
            )
        await db.execute(
            "UPDATE products SET stock = stock - ? WHERE id = ?", (quantity, product_id)
        )
        lines.append((product_id, row["name"], row["price"], quantity))
        total += row["price"] * quantity
    cursor = await db.execute("INSERT INTO orders (user_id, total) VALUES (?, ?)", (user.id, total))
    order_id = cursor.lastrowid
    await db.executemany(
        "INSERT INTO order_lines (order_id, product_id, name, price, quantity)"
        " VALUES (?, ?, ?, ?, ?)",
        [(order_id, *line) for line in lines],
    )
    placed = await fetch(db, await one(db, "SELECT * FROM orders WHERE id = ?", (order_id,)))
    await db.commit()
    goods = ", ".join(f"{quantity} x {name}" for _, name, _, quantity in lines)
    background.add_task(
        send_mail,
        settings.mail_log,
        user.email,
        f"Your order {order_id}",
        f"{goods}: {total / 100:.2f} EUR",
    )
    return placed


@router.get("", response_model=list[Order])
async def mine(user: Customer, db: Database) -> Any:
    """Return the customer's own orders, newest first."""
    rows = await db.execute_fetchall(
        "SELECT * FROM orders WHERE user_id = ? ORDER BY id DESC LIMIT 100", (user.id,)
    )
    return [await fetch(db, row) for row in rows]
