"""From signatures to dependants: inference, contradictions, injected parameters, kinds of calls."""

import functools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from naming import address_free
from pydantic import AliasChoices, BaseModel, Field
from starlette.background import BackgroundTasks
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from turboapi import Body, Cookie, Depends, File, Form, Header, Path, Query, Security, UploadFile
from turboapi.dependencies.models import (
    Dependant,
    _get_cache_key,
    _get_computed_scope,
    _get_oauth_scopes,
    _is_async_gen_callable,
    _is_coroutine_callable,
    _is_gen_callable,
)
from turboapi.dependencies.utils import (
    get_dependant,
    get_flat_params,
    get_parameterless_sub_dependant,
    get_stream_item_type,
    get_typed_return_annotation,
    get_typed_signature,
)
from turboapi.exceptions import DependencyScopeError
from turboapi.params import Depends as DependsClass
from turboapi.security import OAuth2PasswordBearer, SecurityScopes

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

PLACES = ("path", "query", "header", "cookie", "body")


class Item(BaseModel):
    name: str


@dataclass
class Point:
    x: int


def analyse(call: Callable[..., Any], path: str = "/") -> Dependant:
    return get_dependant(path=path, call=call)


def places(dependant: Dependant) -> dict[str, list[str]]:
    found = {place: [f.name for f in getattr(dependant, f"{place}_params")] for place in PLACES}
    return {place: names for place, names in found.items() if names}


def test_places_are_inferred_from_types() -> None:
    def call(
        item_id: int,
        q: str,
        untyped,  # type: ignore[no-untyped-def]
        item: Item,
        point: Point,
        numbers: list[int],
        mapping: dict[str, int],
        upload: UploadFile,
        uploads: list[UploadFile] | None = None,
        limit: int | None = None,
    ) -> None: ...

    assert places(analyse(call, "/{item_id}")) == {
        "path": ["item_id"],
        "query": ["q", "untyped", "limit"],
        "body": ["item", "point", "numbers", "mapping", "upload", "uploads"],
    }


def test_declarations_decide() -> None:
    def call(
        a: Annotated[list[int], Query()],
        b: Annotated[str, Header()],
        c: Annotated[str, Cookie()],
        d: Annotated[int, Body()],
        e: Annotated[str, Form()],
        f: Annotated[bytes, File()],
        g: Item = Query(),
        h: str = Header("x"),
    ) -> None: ...

    dependant = analyse(call)
    assert places(dependant) == {
        "query": ["a", "g"],
        "header": ["b", "h"],
        "cookie": ["c"],
        "body": ["d", "e", "f"],
    }
    assert dependant.header_params[1].default == "x"


def test_the_last_declaration_counts_and_other_metadata_stays() -> None:
    def call(x: Annotated[int, Query(), Field(gt=3), Header(alias="y")]) -> None: ...

    [field] = analyse(call).header_params
    assert field.alias == "y"
    assert field.validate("3")[1]


def test_header_names() -> None:
    def call(
        x_token: Annotated[str, Header()],
        y_token: Annotated[str, Header(convert_underscores=False)],
        z_token: Annotated[str, Header(alias="Z_Z")],
    ) -> None: ...

    assert [f.alias for f in analyse(call).header_params] == ["x-token", "y_token", "Z_Z"]


def test_injected_parameters() -> None:
    def call(
        a: Request,
        b: WebSocket,
        c: HTTPConnection,
        d: JSONResponse,
        e: BackgroundTasks,
        f: SecurityScopes,
        g: Annotated[Request, "text"],
    ) -> None: ...

    dependant = analyse(call)
    assert dependant.request_param_name == "g"
    assert dependant.websocket_param_name == "b"
    assert dependant.http_connection_param_name == "c"
    assert dependant.response_param_name == "d"
    assert dependant.background_tasks_param_name == "e"
    assert dependant.security_scopes_param_name == "f"
    assert places(dependant) == {}


def test_path_parameters() -> None:
    def call(
        plain: int = 5,
        named: Annotated[str, Path(validation_alias=AliasChoices("no", "it"))] = ...,  # type: ignore[assignment]
    ) -> None: ...

    dependant = analyse(call, "/{plain}/{it}")
    assert places(dependant) == {"path": ["plain", "named"]}
    assert dependant.path_params[0].field_info.is_required()
    assert dependant.path_params[1].validation_alias == "it"
    assert places(analyse(call, "/")) == {"query": ["plain"], "path": ["named"]}


def bad_default(x: Annotated[int, Query(3)]) -> None: ...
def path_default(item_id: Annotated[int, Path()] = 3) -> None: ...
def path_as_query(item_id: int = Query()) -> None: ...
def path_list(item_id: list[int]) -> None: ...
def query_dict(x: dict[str, int] = Query()) -> None: ...
def two(x: Annotated[int, Query()] = Query()) -> None: ...
def two_depends(x: Annotated[int, Depends(places)] = Depends(places)) -> None: ...
def query_and_depends(x: Annotated[int, Query()] = Depends(places)) -> None: ...
def declared_request(x: Annotated[Request, Query()]) -> None: ...
def plain_field(x: int = Field(3)) -> None: ...


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (bad_default, "`Query` default value cannot be set in `Annotated` for 'x'"),
        (path_default, "Path parameters cannot have default values"),
        (path_as_query, "Cannot use `Query` for path param 'item_id'"),
        (path_list, "Path params must be of one of the supported types"),
        (query_dict, "Query parameter 'x' must be one of the supported types"),
        (two, "Cannot specify FastAPI annotations in `Annotated` and default value together"),
        (two_depends, "Cannot specify `Depends` in `Annotated` and default value together"),
        (query_and_depends, "Cannot specify a FastAPI annotation in `Annotated` and `Depends`"),
        (declared_request, "Cannot specify FastAPI annotation for type"),
        (plain_field, "non-body parameters must be in path, query, header or cookie: x"),
    ],
)
def test_contradictions(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        analyse(call, "/{item_id}")


def test_one_declaration_as_the_default_of_several() -> None:
    shared = Query(gt=0)

    def call(a: int = shared, b: float = shared) -> None: ...

    a, b = analyse(call).query_params
    assert (a.alias, b.alias) == ("a", "b")
    assert (a.validate("1")[0], b.validate("1.5")[0]) == (1, 1.5)
    assert shared.alias is None


class Common:
    def __init__(self, q: str | None = None) -> None: ...


def leaf(x: int = 1) -> int:
    return x


def branch(a: Annotated[int, Depends(leaf)], b: int = Depends(leaf, use_cache=False)) -> None: ...


def test_dependencies_form_a_tree() -> None:
    def call(one: Annotated[Common, Depends()], two: None = Depends(branch)) -> None: ...

    dependant = analyse(call)
    one, two = dependant.dependencies
    assert (one.name, one.call) == ("one", Common)
    assert [(d.name, d.call, d.use_cache) for d in two.dependencies] == [
        ("a", leaf, True),
        ("b", leaf, False),
    ]
    assert [f.name for f in get_flat_params(dependant)] == ["q", "x"]


def test_flat_params_have_the_fields_of_models() -> None:
    class Filter(BaseModel):
        limit: int = 3
        offset: int = 0

    def call(f: Annotated[Filter, Query()], h: Annotated[str, Header()]) -> None: ...

    assert [f.name for f in get_flat_params(analyse(call))] == ["limit", "offset", "h"]


def test_scopes_are_passed_down() -> None:
    def user(scopes: SecurityScopes) -> None: ...
    def middle(u: Annotated[None, Security(user, scopes=["c", "a"])]) -> None: ...
    def call(m: Annotated[None, Security(middle, scopes=["a", "b"])]) -> None: ...

    [outer] = analyse(call).dependencies
    [inner] = outer.dependencies
    assert _get_oauth_scopes(dependant=outer) == ["a", "b"]
    assert _get_oauth_scopes(dependant=inner) == ["a", "b", "c"]
    assert _get_cache_key(dependant=inner) == (user, ("a", "b", "c"), "")


def test_scopes_matter_only_where_somebody_asks() -> None:
    scheme = OAuth2PasswordBearer("token")

    def plain() -> None: ...
    def call(
        a: Annotated[None, Depends(plain)], b: Annotated[str, Security(scheme, scopes=["x"])]
    ) -> None: ...

    dependant = get_dependant(path="/", call=call, own_oauth_scopes=["s"])
    a, b = dependant.dependencies
    assert _get_cache_key(dependant=a) == (plain, (), "")
    assert _get_cache_key(dependant=b) == (scheme, ("s", "x"), "")


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


async def coroutine() -> None: ...


def wrapper(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return inner


def test_scope_of_generators() -> None:
    def call(a: Annotated[int, Depends(generator, scope="function")], b: int = Depends(generator)):  # type: ignore[no-untyped-def]
        pass

    a, b = analyse(call).dependencies
    assert (_get_computed_scope(dependant=a), _get_computed_scope(dependant=b)) == (
        "function",
        "request",
    )
    assert _get_computed_scope(dependant=Dependant(call=leaf)) is None


def test_a_dependency_must_not_end_before_its_user() -> None:
    def user(a: Annotated[int, Depends(leaf, scope="function")]) -> Iterator[int]:
        yield 1

    def call(a: Annotated[int, Depends(user)]) -> None: ...

    message = 'The dependency "user" has a scope of "request", it cannot depend on'
    with pytest.raises(DependencyScopeError, match=message):
        analyse(call)
    with_scope = functools.partial(get_dependant, path="/", call=user, scope="function")
    assert len(with_scope().dependencies) == 1


class Called:
    def __init__(self, kind: str = "sync") -> None: ...
    def __call__(self) -> None: ...


class CalledAsync:
    async def __call__(self) -> None: ...
    async def method(self) -> None: ...


class CalledGenerator:
    def __call__(self) -> Iterator[int]:
        yield 1


class CalledAsyncGenerator:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("call", "kinds"),
    [
        (leaf, (False, False, False)),
        (Called, (False, False, False)),
        (Called(), (False, False, False)),
        (CalledAsync, (False, False, False)),
        (CalledAsync(), (False, False, True)),
        (CalledAsync().method, (False, False, True)),
        (coroutine, (False, False, True)),
        (functools.partial(coroutine), (False, False, True)),
        (functools.partial(functools.partial(CalledAsync())), (False, False, True)),
        (wrapper(coroutine), (False, False, True)),
        (generator, (True, False, False)),
        (wrapper(generator), (True, False, False)),
        (CalledGenerator(), (True, False, False)),
        (functools.partial(generator), (True, False, False)),
        (async_generator, (False, True, False)),
        (CalledAsyncGenerator(), (False, True, False)),
        (wrapper(functools.partial(async_generator)), (False, True, False)),
    ],
    ids=address_free,
)
def test_kinds_of_calls(call: Any, kinds: tuple[bool, bool, bool]) -> None:
    asked = (_is_gen_callable, _is_async_gen_callable, _is_coroutine_callable)
    assert tuple(ask(call) for ask in asked) == kinds


def test_calls_that_are_equal_are_not_confused() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

        def __call__(self) -> None: ...

    class EqualAsync(Equal):
        async def __call__(self) -> None: ...  # type: ignore[override]

    assert not _is_coroutine_callable(Equal())
    assert _is_coroutine_callable(EqualAsync())


def test_parameterless() -> None:
    sub = get_parameterless_sub_dependant(depends=DependsClass(leaf), path="/")
    assert (sub.call, sub.name) == (leaf, None)
    with pytest.raises(AssertionError, match="must have a callable dependency"):
        get_parameterless_sub_dependant(depends=DependsClass(), path="/")


def test_string_annotations() -> None:
    def call(item: "Item", q: "int | None" = None, r: "Request" = None) -> "list[Item]": ...  # type: ignore[assignment]

    dependant = analyse(call)
    assert dependant.request_param_name == "r"
    assert places(dependant) == {"query": ["q"], "body": ["item"]}
    assert get_typed_return_annotation(call) == list[Item]


def test_names_only_for_type_checkers() -> None:
    def call(q: int) -> "Unknown": ...
    def other(u: "Unknown", q: "int") -> None: ...

    assert places(analyse(call)) == {"query": ["q"]}
    signature = get_typed_signature(other)
    assert signature.parameters["q"].annotation is int


def test_return_annotations() -> None:
    def nothing():  # type: ignore[no-untyped-def]
        pass

    def none() -> None: ...

    assert get_typed_return_annotation(nothing) is None
    assert get_typed_return_annotation(none) is None
    assert get_typed_return_annotation(generator) == Iterator[int]


def test_stream_items() -> None:
    assert get_stream_item_type(AsyncIterator[Item]) is Item
    assert get_stream_item_type(list[int]) is None
    assert get_stream_item_type(int) is None


def test_wrapped_calls_have_the_signature_of_what_they_wrap() -> None:
    def call(item: "Item") -> None: ...

    assert places(analyse(wrapper(call))) == {"body": ["item"]}
    assert places(analyse(functools.partial(leaf))) == {"query": ["x"]}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type statement")
def test_type_aliases() -> None:
    names: dict[str, Any] = {"Annotated": Annotated, "Depends": Depends, "leaf": leaf}
    exec("type Leaf = Annotated[int, Depends(leaf)]\ndef call(x: Leaf): ...", names)
    assert [d.name for d in analyse(names["call"]).dependencies] == ["x"]


def test_responses_as_dependencies_are_called() -> None:
    def call(r: Annotated[Response, Depends(leaf)]) -> None: ...

    dependant = analyse(call)
    assert dependant.response_param_name is None
    assert [d.name for d in dependant.dependencies] == ["r"]
