"""What goes in and out of the shop's API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, EmailStr, Field

Price = Annotated[int, Field(ge=0, le=100_000_000, description="in cents")]


class ProductIn(BaseModel):
    """A product as the shopkeeper writes it."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    description: Annotated[str, Field(max_length=2000)] = ""
    price: Price
    stock: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    tags: Annotated[list[str], Field(max_length=10)] = []


class ProductPatch(BaseModel):
    """What of a product is to change."""

    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    description: Annotated[str, Field(max_length=2000)] | None = None
    price: Price | None = None
    stock: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    tags: Annotated[list[str], Field(max_length=10)] | None = None


class Product(ProductIn):
    """A product as everybody sees it."""

    id: int
    image: str | None = None


class ProductPage(BaseModel):
    """One page of a search."""

    total: int
    items: list[Product]


class Registration(BaseModel):
    """A new customer."""

    email: EmailStr
    password: Annotated[str, Field(min_length=8, max_length=128)]
    name: Annotated[str, Field(min_length=1, max_length=80)]


class User(BaseModel):
    """A user without secrets."""

    id: int
    email: str
    name: str
    role: Literal["customer", "admin"]


class Token(BaseModel):
    """The answer of the password flow (RFC 6749, 5.1)."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int


class OrderLineIn(BaseModel):
    """So many of one product."""

    product_id: int
    quantity: Annotated[int, Field(ge=1, le=100)]


class OrderIn(BaseModel):
    """What a customer orders."""

    lines: Annotated[list[OrderLineIn], Field(min_length=1, max_length=50)]


class OrderLine(OrderLineIn):
    """An ordered product at the price of that moment."""

    name: str
    price: int


class Order(BaseModel):
    """An order that was taken."""

    id: int
    placed_at: datetime
    total: int
    lines: list[OrderLine]
