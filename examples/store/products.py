"""Goods: search, show, and what the shopkeeper does with them."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any, Literal

import aiosqlite
from starlette.concurrency import run_in_threadpool

from turboapi import APIRouter, File, HTTPException, Path, Query, Response, UploadFile, status

from .db import first, one
from .deps import Admin, Database, SettingsDep
from .models import Product, ProductIn, ProductPage, ProductPatch

router = APIRouter(prefix="/products", tags=["products"])

ProductId = Annotated[int, Path(ge=1, le=2**63 - 1)]
ORDER = {
    "name": "name COLLATE NOCASE",
    "price": "price",
    "-price": "price DESC",
    "newest": "id DESC",
}
# By the first bytes: what a browser says of a file proves nothing.
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif"}


def to_product(row: aiosqlite.Row) -> dict[str, Any]:
    """Return a row as the fields of a Product."""
    fields = dict(row)
    fields["tags"] = json.loads(fields["tags"])
    if fields["image"]:
        fields["image"] = f"/images/{fields['image']}"
    return fields


async def fetch(db: aiosqlite.Connection, product_id: int) -> dict[str, Any]:
    """Return the product, or 404."""
    row = await first(db, "SELECT * FROM products WHERE id = ?", (product_id,))
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no product {product_id}.")
    return to_product(row)


@router.get("", response_model=ProductPage)
async def search(
    db: Database,
    q: Annotated[
        str | None, Query(max_length=80, description="part of the name or description")
    ] = None,
    tag: Annotated[list[str], Query()] = [],  # noqa: B006
    in_stock: bool = False,
    sort: Literal["name", "price", "-price", "newest"] = "name",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Any:
    """Search the goods."""
    where, values = ["1"], []
    if q:
        where.append("(name LIKE ? ESCAPE '!' OR description LIKE ? ESCAPE '!')")
        escaped = q.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        values += [f"%{escaped}%"] * 2
    for name in tag:
        where.append("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)")
        values.append(name)
    if in_stock:
        where.append("stock > 0")
    condition = " AND ".join(where)
    (total,) = await one(db, f"SELECT count(*) FROM products WHERE {condition}", values)
    rows = await db.execute_fetchall(
        f"SELECT * FROM products WHERE {condition} ORDER BY {ORDER[sort]}, id LIMIT ? OFFSET ?",
        [*values, limit, offset],
    )
    return {"total": total, "items": [to_product(row) for row in rows]}


@router.get("/{product_id}", response_model=Product)
async def show(product_id: ProductId, db: Database) -> Any:
    """One product."""
    return await fetch(db, product_id)


@router.post("", response_model=Product, status_code=status.HTTP_201_CREATED)
async def create(product: ProductIn, admin: Admin, db: Database, response: Response) -> Any:
    """Put a new product on the shelf."""
    cursor = await db.execute(
        "INSERT INTO products (name, description, price, stock, tags) VALUES (?, ?, ?, ?, ?)",
        (product.name, product.description, product.price, product.stock, json.dumps(product.tags)),
    )
    response.headers["Location"] = f"/products/{cursor.lastrowid}"
    return await fetch(db, cursor.lastrowid or 0)


@router.patch("/{product_id}", response_model=Product)
async def change(product_id: ProductId, patch: ProductPatch, admin: Admin, db: Database) -> Any:
    """Change the fields that are given."""
    changes = patch.model_dump(exclude_unset=True, exclude_none=True)
    if "tags" in changes:
        changes["tags"] = json.dumps(changes["tags"])
    await fetch(db, product_id)
    if changes:
        columns = ", ".join(f"{name} = ?" for name in changes)  # names of ProductPatch's fields
        await db.execute(
            f"UPDATE products SET {columns} WHERE id = ?",
            [*changes.values(), product_id],
        )
    return await fetch(db, product_id)


@router.delete("/{product_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove(product_id: ProductId, admin: Admin, db: Database) -> None:
    """Take a product off the shelf."""
    await fetch(db, product_id)
    await db.execute("DELETE FROM products WHERE id = ?", (product_id,))


@router.put("/{product_id}/image", response_model=Product)
async def upload_image(
    product_id: ProductId,
    image: Annotated[UploadFile, File(description="PNG, JPEG or GIF")],
    admin: Admin,
    db: Database,
    settings: SettingsDep,
) -> Any:
    """Give the product a picture."""
    before = await fetch(db, product_id)
    content = await image.read(settings.max_image_bytes + 1)
    if len(content) > settings.max_image_bytes:
        raise HTTPException(
            status.HTTP_413_CONTENT_TOO_LARGE, f"At most {settings.max_image_bytes} bytes, please."
        )
    ending = next((e for start, e in SIGNATURES.items() if content.startswith(start)), None)
    if ending is None:
        raise HTTPException(
            status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "A picture must be a PNG, JPEG or GIF file."
        )
    name = f"{product_id}-{secrets.token_hex(4)}.{ending}"
    await run_in_threadpool((settings.images / name).write_bytes, content)
    await db.execute("UPDATE products SET image = ? WHERE id = ?", (name, product_id))
    if before["image"]:
        (settings.images / before["image"].rpartition("/")[2]).unlink(missing_ok=True)
    return await fetch(db, product_id)
