"""Models of query parameters, and credentials that C reads from a header: as FastAPI, both doors."""

from typing import Annotated, Any, Literal

import pytest
from doors_kit import DOORS
from frameworks_kit import assert_same, names_of
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json, field_validator


class Filter(BaseModel):
    limit: int = Field(10, le=100)
    order: Literal["a", "d"] = "a"
    tags: list[str] = []
    name: str = Field("", alias="the name")

    @field_validator("order")
    @classmethod
    def no_d(cls, value: str) -> str:
        if value == "d":
            raise ValueError("no d")
        return value


class Strict(Filter):
    model_config = ConfigDict(extra="forbid")


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)
    required: int
    many: set[int] = set()
    choice: str = Field("", validation_alias=AliasChoices("one", "two"))


class WithJson(BaseModel):
    value: Json[list[int]] = []
    pair: tuple[int, int] | None = None


QUERIES = [
    "", "limit=5&tags=a&tags=b", "limit=x&order=d", "limit=101&order=e", "tags=", "tags", "=1",
    "limit=1&limit=2", "the+name=%C3%BC&the%20name=b%26c", "name=1", "x=1&y=2&x=3",
    "required=1&many=1&many=b", "required=1&two=b&one=a&z=%ff", "value=[1,2]&pair=1&pair=2",
    "value=[&pair=1", "limit=1;tags=2", "%6cimit=7", "limit=%00", "&&limit=3&&", "a=1&&a",
]  # fmt: skip


def test_models_of_query_parameters() -> None:
    def make(f: Any) -> Any:
        app = f.FastAPI()

        @app.get("/filter")
        async def get_filter(q: Annotated[Filter, f.Query()]) -> Any:
            return q

        @app.get("/strict")
        def get_strict(q: Annotated[Strict, f.Query()]) -> Any:
            return q

        @app.get("/loose")
        async def get_loose(q: Annotated[Loose, f.Query()]) -> Any:
            return [q, sorted(q.model_extra or {}), list(q.model_extra or {})]

        @app.get("/json")
        async def get_json(q: Annotated[WithJson, f.Query()]) -> Any:
            return q

        def dependency(q: Annotated[Filter, f.Query()]) -> Any:
            return q

        @app.get("/dependency")
        async def get_dependency(q: Annotated[Any, f.Depends(dependency)]) -> Any:
            return q

        return app

    assert_same(
        make,
        *[
            ("GET", f"/{path}?{query}")
            for path in ("filter", "strict", "loose", "json", "dependency")
            for query in QUERIES
        ],
    )


FIELDS: list[list[tuple[str, str]]] = [
    [],
    [("Authorization", "Bearer secret")],
    [("Authorization", "bEaReR   secret  x ")],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer ")],
    [("Authorization", "")],
    [("Authorization", "Bearersecret")],
    [("Authorization", "Basic abc")],
    [("Authorization", "Bearer one"), ("Authorization", "Bearer two")],
    [("X-Key", "k"), ("Authorization", "Bearer s")],
    [("X-Key", "")],
]


def test_credentials() -> None:
    def make(f: Any) -> Any:
        app = f.FastAPI()

        class Own(f.OAuth2PasswordBearer):
            async def __call__(self, request: Any) -> Any:
                return f"own {request.headers.get('authorization')}"

        class Named(f.OAuth2PasswordBearer):
            pass

        class OwnHTTP(f.HTTPBearer):
            async def __call__(self, request: Any) -> Any:
                found = await super().__call__(request)
                return f"own {found.credentials}"

        schemes = {
            "password": f.OAuth2PasswordBearer(tokenUrl="t"),
            "optional": f.OAuth2PasswordBearer(tokenUrl="t", auto_error=False),
            "code": f.OAuth2AuthorizationCodeBearer(authorizationUrl="a", tokenUrl="t"),
            "own": Own(tokenUrl="t"),
            "named": Named(tokenUrl="t"),
            "key": f.APIKeyHeader(name="X-Key"),
            "optional-key": f.APIKeyHeader(name="x-key", auto_error=False),
            "http": f.HTTPBearer(),
            "optional-http": f.HTTPBearer(auto_error=False, bearerFormat="JWT"),
            "own-http": OwnHTTP(),
        }
        for name, scheme in schemes.items():

            def add(name: str, scheme: Any) -> None:
                async def user(token: Annotated[Any, f.Depends(scheme)]) -> Any:
                    return {"token": token}

                @app.get(f"/{name}")
                async def get(
                    user: Annotated[Any, f.Depends(user)],
                    token: Annotated[Any, f.Depends(scheme)],
                    again: Annotated[Any, f.Depends(scheme, use_cache=False)],
                ) -> Any:
                    return [user, token, again]

            add(name, scheme)
        return app

    names = ["password", "optional", "code", "own", "named", "key", "optional-key"]
    names += ["http", "optional-http", "own-http"]
    assert_same(
        make,
        *[("GET", f"/{name}", {"headers": fields}) for name in names for fields in FIELDS],
    )


@pytest.mark.parametrize("door", DOORS)
def test_replaced_and_overridden_schemes_are_called(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = names_of("turboapi")
    app = f.FastAPI()
    scheme = f.OAuth2PasswordBearer(tokenUrl="t")

    @app.get("/")
    async def get(token: Annotated[str, f.Depends(scheme)]) -> Any:
        return token

    async def call(self: Any, request: Any) -> str:
        return "replaced"

    fields = {"Authorization": "Bearer s"}
    with DOORS[door](app) as client:
        assert client.get("/", headers=fields).json() == "s"
        app.dependency_overrides[scheme] = lambda: "overridden"
        assert client.get("/", headers=fields).json() == "overridden"
        app.dependency_overrides.clear()
        monkeypatch.setattr(f.OAuth2PasswordBearer, "__call__", call)
        assert client.get("/", headers=fields).json() == "replaced"


@pytest.mark.parametrize("door", DOORS)
def test_replaced_bearers_are_called(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f = names_of("turboapi")
    app = f.FastAPI()
    bearer = f.HTTPBearer()

    @app.get("/")
    async def get(found: Annotated[Any, f.Depends(bearer)]) -> Any:
        assert type(found) is f.HTTPAuthorizationCredentials
        return [found.scheme, found.credentials]

    async def call(self: Any, request: Any) -> Any:
        return f.HTTPAuthorizationCredentials(scheme="replaced", credentials="")

    fields = {"Authorization": "bearer  s "}
    with DOORS[door](app) as client:
        assert client.get("/", headers=fields).json() == ["bearer", "s"]
        app.dependency_overrides[bearer] = lambda: f.HTTPAuthorizationCredentials(
            scheme="overridden", credentials="x"
        )
        assert client.get("/", headers=fields).json() == ["overridden", "x"]
        app.dependency_overrides.clear()
        monkeypatch.setattr(f.HTTPBearer, "__call__", call)
        assert client.get("/", headers=fields).json() == ["replaced", ""]
