"""The OpenAPI document, part by part; FastAPI's own tests compare whole ones."""

from enum import Enum
from typing import Annotated

import pydantic
import pytest
from pydantic import BaseModel, Field

from turboapi import APIRouter, Body, Cookie, Depends, FastAPI, Header, Path, Query, Response
from turboapi.openapi.models import OpenAPI, Parameter, Reference, Schema
from turboapi.openapi.utils import get_openapi


def operation(app: FastAPI, path: str = "/", method: str = "get"):
    return app.openapi()["paths"][path][method]


def test_smallest_document():
    assert FastAPI().openapi() == {
        "openapi": "3.1.0",
        "info": {"title": "FastAPI", "version": "0.1.0"},
        "paths": {},
    }


def test_metadata_is_checked_and_extensions_pass():
    app = FastAPI(
        contact={"name": "n", "x-extra": 1},
        license_info={"name": "MIT", "identifier": "MIT"},
        terms_of_service="https://example.com",
        openapi_tags=[{"name": "t", "x-order": 2}],
        openapi_external_docs={"url": "https://example.com"},
    )
    document = app.openapi()
    assert document["info"]["contact"] == {"name": "n", "x-extra": 1}
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert document["tags"] == [{"name": "t", "x-order": 2}]
    assert document["externalDocs"] == {"url": "https://example.com/"}
    with pytest.raises(pydantic.ValidationError, match="email"):
        FastAPI(contact={"email": "none"}).openapi()


def test_parameters_of_all_places():
    app = FastAPI()

    @app.get("/{p}")
    def read(
        p: Annotated[int, Path(description="d", ge=1)],
        x_header: Annotated[str, Header()],
        raw_header: Annotated[str, Header(convert_underscores=False)],
        q: Annotated[str | None, Query(deprecated=True, max_length=3)] = None,
        c: Annotated[int, Cookie(openapi_examples={"one": {"value": 1}})] = 1,
        hidden: Annotated[int, Query(include_in_schema=False)] = 1,
    ): ...

    shown = {(one["in"], one["name"]): one for one in operation(app, "/{p}")["parameters"]}
    assert list(shown) == [
        ("path", "p"),
        ("query", "q"),
        ("header", "x-header"),
        ("header", "raw_header"),
        ("cookie", "c"),
    ]
    assert shown["path", "p"] == {
        "name": "p",
        "in": "path",
        "required": True,
        "description": "d",
        "schema": {"type": "integer", "minimum": 1, "description": "d", "title": "P"},
    }
    assert shown["query", "q"]["deprecated"] is True
    assert shown["cookie", "c"]["examples"] == {"one": {"value": 1}}
    assert shown["cookie", "c"]["required"] is False


def test_parameter_models():
    class Filters(BaseModel):
        limit: int = 10
        order_by: str = Field(alias="orderBy")

    app = FastAPI()

    @app.get("/")
    def read(filters: Annotated[Filters, Query()]): ...

    @app.get("/optional")
    def optional(filters: Annotated[Filters | None, Query()] = None): ...

    assert [(p["name"], p["required"]) for p in operation(app)["parameters"]] == [
        ("limit", False),
        ("orderBy", True),
    ]
    assert [(p["name"], p["required"]) for p in operation(app, "/optional")["parameters"]] == [
        ("limit", False),
        ("orderBy", False),
    ]


def test_parameter_declared_twice_is_shown_once_and_required():
    def optional(q: int | None = None): ...

    def required(q: int): ...

    app = FastAPI()

    @app.get("/a", dependencies=[Depends(required), Depends(optional)])
    def a(): ...

    @app.get("/b", dependencies=[Depends(optional), Depends(required)])
    def b(): ...

    for path in ("/a", "/b"):
        (parameter,) = operation(app, path)["parameters"]
        assert parameter["required"] is True


def test_bodies():
    class Item(BaseModel):
        name: str

    app = FastAPI()

    @app.post("/")
    def create(item: Annotated[Item | None, Body(examples=[{"name": "n"}])] = None): ...

    body = operation(app, method="post")["requestBody"]
    assert "required" not in body
    schema = body["content"]["application/json"]["schema"]
    assert schema["anyOf"] == [{"$ref": "#/components/schemas/Item"}, {"type": "null"}]
    assert set(app.openapi()["components"]["schemas"]) == {
        "HTTPValidationError",
        "Item",
        "ValidationError",
    }


def test_body_of_a_method_that_has_none_is_not_shown():
    app = FastAPI()
    app.add_api_route("/", lambda: None, methods=["OPTIONS"])
    assert "requestBody" not in operation(app, method="options")


def test_responses():
    class Fault(BaseModel):
        code: int

    app = FastAPI()

    @app.get(
        "/",
        status_code=201,
        response_description="made",
        responses={
            404: {"model": Fault},
            "4xx": {"description": "bad"},
            "default": {"content": {"text/plain": {}}},
            201: {"headers": {"X-A": {"schema": {"type": "string"}}}},
        },
    )
    def read(q: int) -> Fault: ...

    responses = operation(app)["responses"]
    assert list(responses) == ["201", "404", "4XX", "default"]
    assert responses["201"]["description"] == "made"
    assert responses["201"]["headers"] == {"X-A": {"schema": {"type": "string"}}}
    assert responses["404"]["description"] == "Not Found"
    assert responses["404"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Fault"
    }
    assert responses["4XX"]["description"] == "bad"
    assert responses["default"]["description"] == "Default Response"
    # 4XX and default speak for 422.
    assert "422" not in responses
    assert "ValidationError" not in app.openapi()["components"]["schemas"]


def test_unknown_status_is_refused():
    app = FastAPI()
    app.get("/", responses={"hello": {"description": "?"}})(lambda: None)
    with pytest.raises(ValueError, match="hello"):
        app.openapi()


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_body(status):
    app = FastAPI()
    app.get("/", status_code=status)(lambda: None)
    assert operation(app)["responses"] == {str(status): {"description": "Successful Response"}}


def test_response_classes():
    class Teapot(Response):
        media_type = "text/teapot"

        def __init__(self, content=None, status_code=418, **more):
            super().__init__(content, status_code, **more)

    app = FastAPI()
    app.get("/pot", response_class=Teapot)(lambda: None)
    app.get("/none", response_class=Response)(lambda: None)
    assert operation(app, "/pot")["responses"] == {
        "418": {
            "description": "Successful Response",
            "content": {"text/teapot": {"schema": {"type": "string"}}},
        }
    }
    assert operation(app, "/none")["responses"] == {"200": {"description": "Successful Response"}}


def test_several_methods_do_not_share_what_extra_is_merged_into():
    app = FastAPI()
    app.add_api_route(
        "/",
        lambda q=1: None,
        methods=["PUT", "POST"],
        openapi_extra={
            "parameters": [{"name": "x", "in": "query", "schema": {}}],
            "requestBody": {"content": {"a/b": {}}},
            "x-a": [1],
        },
        operation_id="same",
    )
    with pytest.warns(UserWarning, match="Duplicate Operation ID same for function <lambda> at"):
        path = app.openapi()["paths"]["/"]
    for method in ("put", "post"):
        assert [one["name"] for one in path[method]["parameters"]] == ["q", "x"]
        assert path[method]["x-a"] == [1]


def test_callbacks_and_webhooks():
    callbacks = APIRouter()

    class Event(BaseModel):
        id: int

    @callbacks.post("{$callback_url}/done")
    def done(event: Event): ...

    app = FastAPI()

    @app.post("/start", callbacks=callbacks.routes)
    def start(): ...

    @app.webhooks.post("hook")
    def hook(event: Event): ...

    document = app.openapi()
    shown = document["paths"]["/start"]["post"]["callbacks"]["done"]["{$callback_url}/done"]["post"]
    reference = {"$ref": "#/components/schemas/Event"}
    for one in (shown, document["webhooks"]["hook"]["post"]):
        assert one["requestBody"]["content"]["application/json"]["schema"] == reference


def test_one_schema_or_two_for_a_model():
    class Item(BaseModel):
        name: str = Field(validation_alias="nameIn", serialization_alias="nameOut")

    def names(**settings):
        app = FastAPI(**settings)

        @app.post("/")
        def echo(item: Item) -> Item: ...

        return {n for n in app.openapi()["components"]["schemas"] if n.startswith("Item")}

    assert names() == {"Item-Input", "Item-Output"}
    assert names(separate_input_output_schemas=False) == {"Item"}


def test_names_of_models_that_clash():
    def model(kind):
        class Item(BaseModel):
            value: kind

        Item.__module__ = f"shop.{kind.__name__}"
        return Item

    app = FastAPI()
    app.get("/a", response_model=model(int))(lambda: None)
    app.get("/b", response_model=model(str))(lambda: None)
    schemas = app.openapi()["components"]["schemas"]
    assert len(schemas) == 2
    assert all("Item" in name for name in schemas)


def test_enumerations_are_components():
    class Size(Enum):
        small = "s"
        large = "l"

    app = FastAPI()

    @app.get("/")
    def read(size: Size): ...

    assert operation(app)["parameters"][0]["schema"]["$ref"] == "#/components/schemas/Size"
    assert app.openapi()["components"]["schemas"]["Size"]["enum"] == ["s", "l"]


def test_routes_that_are_not_shown():
    app = FastAPI()
    app.get("/", include_in_schema=False)(lambda q=1: None)
    app.add_route("/plain", lambda request: None)
    assert app.openapi()["paths"] == {}
    assert "components" not in app.openapi()


def test_get_openapi_takes_what_an_application_has():
    app = FastAPI(title="T", version="2")
    app.get("/")(lambda: None)
    document = get_openapi(
        title="T", version="2", openapi_version="3.0.2", description="D", routes=app.routes
    )
    assert document["openapi"] == "3.0.2"
    assert document["info"] == {"title": "T", "version": "2", "description": "D"}
    assert document["paths"] == app.openapi()["paths"]


def test_member_names_of_the_models():
    assert Reference.model_validate({"$ref": "x"}).ref == "x"
    schema = Schema.model_validate(
        {"$id": "i", "not": True, "if": {"type": "string"}, "$defs": {"a": False}, "x-y": 1}
    )
    assert (schema.id, schema.not_, schema.defs, schema.model_extra) == (
        "i",
        True,
        {"a": False},
        {"x-y": 1},
    )
    dumped = schema.model_dump(by_alias=True, exclude_none=True, mode="json")
    assert dumped == {
        "$id": "i",
        "not": True,
        "if": {"type": "string"},
        "$defs": {"a": False},
        "x-y": 1,
    }
    parameter = Parameter.model_validate({"name": "n", "in": "query", "schema": {"type": "null"}})
    assert parameter.in_.value == "query"
    with pytest.raises(pydantic.ValidationError, match="maxLength"):
        Schema(maxLength=-1)
    with pytest.raises(pydantic.ValidationError, match="info"):
        OpenAPI(openapi="3.1.0")


def test_tags_and_callbacks_may_be_any_sequence() -> None:
    from turboapi import APIRouter, FastAPI

    callbacks = APIRouter()
    router = APIRouter()

    @router.get("/", tags=("a", "b"), callbacks=tuple(callbacks.routes))  # type: ignore[arg-type]
    async def read() -> int:
        return 1

    app = FastAPI()
    app.include_router(router, tags=("c",))  # type: ignore[arg-type]
    assert app.openapi()["paths"]["/"]["get"]["tags"] == ["c", "a", "b"]
