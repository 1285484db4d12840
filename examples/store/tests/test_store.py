"""The shop from outside: every request goes over a socket to the server that `make run` starts."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from examples.store.db import MIGRATIONS, Pool, one

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def new_product(client: httpx.Client, admin: dict[str, str], **fields: object) -> dict[str, object]:
    body = {"name": "Thing", "price": 100, "stock": 5, **fields}
    answer = client.post("/products", json=body, headers=admin)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/products/{answer.json()['id']}"
    return answer.json()


def test_page_and_docs(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Turbo Store" in page.text
    for path, kind in (("/static/store.js", "javascript"), ("/static/store.css", "css")):
        answer = client.get(path)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert "swagger-ui" in client.get("/docs").text
    assert "redoc" in client.get("/redoc").text
    schema = client.get("/openapi.json").json()
    assert schema["info"]["title"] == "Turbo Store"
    assert "OAuth2PasswordBearer" in schema["components"]["securitySchemes"]


def test_middleware_adds_its_header(client: httpx.Client) -> None:
    assert client.get("/health").headers["server-timing"].startswith("app;dur=")


def test_search(client: httpx.Client) -> None:
    page = client.get("/products", params={"q": "pages", "sort": "price"}).json()
    assert [item["name"] for item in page["items"]] == ["Field notebook"]
    assert client.get("/products", params={"q": "%"}).json()["total"] == 0
    fast = client.get("/products", params=[("tag", "kitchen"), ("tag", "fast")]).json()
    assert [item["name"] for item in fast["items"]] == ["Fast kettle"]
    prices = [
        i["price"] for i in client.get("/products", params={"sort": "-price"}).json()["items"]
    ]
    assert prices == sorted(prices, reverse=True)
    first, second = (
        client.get("/products", params={"limit": 2, "offset": offset}).json() for offset in (0, 2)
    )
    assert not {i["id"] for i in first["items"]} & {i["id"] for i in second["items"]}


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"sort": "y"}, "sort"),
        ({"offset": -1}, "offset"),
    ],
)
def test_search_refuses_nonsense(
    client: httpx.Client, params: dict[str, object], where: str
) -> None:
    answer = client.get("/products", params=params)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", where]


def test_unknown_product(client: httpx.Client) -> None:
    answer = client.get("/products/999999")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "There is no product 999999."}
    assert client.get("/products/none").status_code == 422


def test_shelf_is_the_shopkeepers(client: httpx.Client, customer: dict[str, str]) -> None:
    body = {"name": "Mine", "price": 1}
    nobody = client.post("/products", json=body)
    assert nobody.status_code == 401
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert client.post("/products", json=body, headers=customer).status_code == 403
    forged = {"Authorization": "Bearer a.b.c"}
    assert client.post("/products", json=body, headers=forged).status_code == 401


def test_product_life(client: httpx.Client, admin: dict[str, str]) -> None:
    product = new_product(client, admin, name="Lamp", tags=["home"])
    path = f"/products/{product['id']}"
    changed = client.patch(path, json={"price": 250}, headers=admin).json()
    assert (changed["price"], changed["name"], changed["tags"]) == (250, "Lamp", ["home"])
    assert client.patch(path, json={"price": -1}, headers=admin).status_code == 422
    gone = client.delete(path, headers=admin)
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.get(path).status_code == 404


def test_image(client: httpx.Client, admin: dict[str, str]) -> None:
    path = f"/products/{new_product(client, admin)['id']}/image"
    answer = client.put(path, files={"image": ("x.png", PNG, "image/png")}, headers=admin)
    assert answer.status_code == 200, answer.text
    assert client.get(answer.json()["image"]).content == PNG
    again = client.put(path, files={"image": ("x.png", PNG, "image/png")}, headers=admin)
    assert client.get(again.json()["image"]).content == PNG
    assert client.get(answer.json()["image"]).status_code == 404, "the old one goes"
    text = client.put(path, files={"image": ("x.png", b"hello", "image/png")}, headers=admin)
    assert text.status_code == 415
    large = client.put(
        path, files={"image": ("x.png", PNG + bytes(2 << 20), "image/png")}, headers=admin
    )
    assert large.status_code == 413
    assert client.put(path, headers=admin).status_code == 422


def test_registration(client: httpx.Client) -> None:
    body = {"email": f"{time.time_ns()}@example.com", "password": "long enough", "name": "Bo"}
    assert client.post("/users", json=body).status_code == 201
    assert client.post("/users", json=body).status_code == 409
    assert client.post("/users", json={**body, "email": "no address"}).status_code == 422
    wrong = client.post("/token", data={"username": body["email"], "password": "wrong"})
    assert wrong.status_code == 401
    assert client.post("/token", json={}).status_code == 422


def test_order_and_mail(
    client: httpx.Client, admin: dict[str, str], customer: dict[str, str], data: Path
) -> None:
    product = new_product(client, admin, name="Rare vase", price=300, stock=3)
    line = {"product_id": product["id"], "quantity": 1}
    placed = client.post("/orders", json={"lines": [line, line]}, headers=customer)
    assert placed.status_code == 201, placed.text
    order = placed.json()
    assert order["total"] == 600
    assert order["lines"] == [
        {"product_id": product["id"], "quantity": 2, "name": "Rare vase", "price": 300}
    ]
    assert client.get(f"/products/{product['id']}").json()["stock"] == 1
    assert client.get("/orders", headers=customer).json() == [order]
    too_many = client.post("/orders", json={"lines": [line, line]}, headers=customer)
    assert too_many.status_code == 409
    assert client.get(f"/products/{product['id']}").json()["stock"] == 1, "rolled back"
    assert client.post("/orders", json={"lines": [line]}).status_code == 401
    assert client.post("/orders", json={"lines": []}, headers=customer).status_code == 422
    for _ in range(100):
        if "2 x Rare vase: 6.00 EUR" in (data / "mail.log").read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("no mail was written")


def test_last_one_is_sold_once(
    client: httpx.Client, admin: dict[str, str], customer: dict[str, str]
) -> None:
    """To one of 50 clients at once; the others are told that none is left."""
    product = new_product(client, admin, name="Last one", stock=1)
    body = {"lines": [{"product_id": product["id"], "quantity": 1}]}
    together = threading.Barrier(50)

    def order(_: int) -> httpx.Response:
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            own.get("/health")  # connected
            together.wait(60)
            return own.post("/orders", json=body, headers=customer)

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(order, range(50)))
    assert sorted(a.status_code for a in answers) == [201] + [409] * 49
    assert {a.json()["detail"] for a in answers if a.status_code == 409} == {
        "Only 0 of “Last one” are left."
    }
    assert client.get(f"/products/{product['id']}").json()["stock"] == 0
    assert sum(
        line["product_id"] == product["id"]
        for order in client.get("/orders", headers=customer).json()
        for line in order["lines"]
    ) == 1  # fmt: skip


def test_guessing_passwords_takes_long(client: httpx.Client) -> None:
    email = f"{time.time_ns()}@example.com"
    body = {"email": email, "password": "long enough", "name": "Cy"}
    assert client.post("/users", json=body).status_code == 201

    def try_(password: str) -> httpx.Response:
        return client.post("/token", data={"username": email, "password": password})

    assert [try_(f"wrong {n}").status_code for n in range(3)] == [401] * 3
    refused = try_("long enough")
    assert refused.status_code == 429, "the right one, too"
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert "Try again in" in refused.json()["detail"]
    for _ in range(300):
        if (answer := try_("long enough")).status_code != 429:
            break
        time.sleep(0.1)
    assert answer.status_code == 200
    assert try_("wrong").status_code == 401, "it begins anew"


def test_migrations(tmp_path: Path) -> None:
    """Each runs once, also on a file that was made before schemas had numbers."""
    old = sqlite3.connect(tmp_path / "store.db")
    with old:
        for statement in (MIGRATIONS / "0001_shop.sql").read_text().split(";"):
            old.execute(statement)
        old.execute("INSERT INTO products (name, description, price, stock) VALUES ('x', '', 1, 1)")
    old.close()

    async def open_twice() -> tuple[int, int, str]:
        for _ in range(2):
            pool = Pool(tmp_path / "store.db", size=1)
            await pool.open()
            async with pool.connection() as db:
                (version,) = await one(db, "PRAGMA user_version")
                (goods,) = await one(db, "SELECT count(*) FROM products")
                (mode,) = await one(db, "PRAGMA journal_mode")
            await pool.close()
        return version, goods, mode

    assert asyncio.run(open_twice()) == (len(list(MIGRATIONS.glob("*.sql"))), 1, "wal")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM orders WHERE user_id = 1 ORDER BY id DESC",
        "SELECT * FROM order_lines WHERE order_id = 1",
        "SELECT * FROM products ORDER BY price, id",
        "SELECT * FROM users WHERE email = 'a'",
    ],
)
def test_indexes_are_used(client: httpx.Client, data: Path, query: str) -> None:
    db = sqlite3.connect(f"file:{data / 'store.db'}?mode=ro", uri=True)
    plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}"))
    db.close()
    assert "USING INDEX" in plan or "USING COVERING INDEX" in plan
    assert "TEMP B-TREE" not in plan or "LAST TERM" in plan
