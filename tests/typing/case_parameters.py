"""Parameters: what `Annotated` and defaults declare is the type that the function sees."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, assert_type

from turboapi import (
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    Path,
    Query,
    Security,
    UploadFile,
    params,
)

app = FastAPI()


class Session:
    def rows(self) -> list[int]:
        return []


class Pager:
    def __init__(self, skip: int = 0, limit: Annotated[int, Query(le=100)] = 10) -> None:
        self.skip, self.limit = skip, limit


def get_session() -> Iterator[Session]:
    yield Session()


async def get_session_async() -> AsyncIterator[Session]:
    yield Session()


def common(q: str | None = None) -> dict[str, str | None]:
    return {"q": q}


SessionDep = Annotated[Session, Depends(get_session)]
UserId = Annotated[int, Path(gt=0, title="User")]


@app.get("/{user_id}")
async def everything(
    user_id: UserId,
    session: SessionDep,
    pager: Annotated[Pager, Depends()],
    scoped: Annotated[Session, Depends(get_session_async, use_cache=False, scope="function")],
    secured: Annotated[dict[str, str | None], Security(common, scopes=["me"])],
    names: Annotated[list[str], Query(alias="name", min_length=2, max_length=9)],
    agent: Annotated[str | None, Header(convert_underscores=False)] = None,
    token: Annotated[str | None, Cookie(description="the token")] = None,
    note: Annotated[str, Form(examples=["a"])] = "",
    size: Annotated[int, Body(embed=True, ge=1, lt=10, multiple_of=2)] = 2,
    raw: Annotated[bytes | None, File()] = None,
    upload: UploadFile | None = None,
) -> None:
    assert_type(user_id, int)
    assert_type(session, Session)
    assert_type(session.rows(), list[int])
    assert_type(pager, Pager)
    assert_type(scoped, Session)
    assert_type(secured, dict[str, str | None])
    assert_type(names, list[str])
    assert_type(agent, str | None)
    assert_type(note, str)
    assert_type(size, int)
    assert_type(raw, bytes | None)
    if upload is not None:
        assert_type(await upload.read(), bytes)
        assert_type(await upload.seek(0), None)
        assert_type(await upload.write(b""), None)
        assert_type(await upload.close(), None)
        assert_type(upload.filename, str | None)
        assert_type(upload.content_type, str | None)
        assert_type(upload.size, int | None)
        assert_type(upload.headers["a"], str)


# As defaults they are Any, so that they may stand for a value of each type.
@app.post("/{key}")
def by_default(
    key: int = Path(..., ge=1),
    q: str | None = Query(None, pattern="^a"),
    made: list[str] = Query(default_factory=list),
    x_token: str = Header(...),
    session: Session = Depends(get_session),
    common_one: dict[str, str | None] = Security(common, scopes=["a"]),
    file: UploadFile = File(..., description="a file"),
    body: dict[str, Any] = Body(..., openapi_examples={"a": {"value": {}}}),
) -> None:
    assert_type(key, int)
    assert_type(q, str | None)
    assert_type(session, Session)


assert_type(Path(), Any)
assert_type(Query(1), Any)
assert_type(Header(), Any)
assert_type(Cookie(), Any)
assert_type(Body(), Any)
assert_type(Form(), Any)
assert_type(File(), Any)
assert_type(Depends(common), Any)
assert_type(Security(common), Any)

app_wide = FastAPI(dependencies=[Depends(common)])
router_wide = app_wide.get("/", dependencies=[Depends(common), Security(common)])

# The classes behind the functions.
assert_type(params.Depends(common), params.Depends)
assert_type(params.Query(1).in_, params.ParamTypes)
assert_type(params.Security(common, scopes=["a"]).scopes is None, bool)


def wrong() -> None:
    Query(minlength=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Query(min_length="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Query(gt="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Path(embed=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Header(convert_underscores="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Cookie(convert_underscores=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Body(embed="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Body(media_type=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Form(alias=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    File(title=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Depends(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Depends(common, scope="app")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Depends(common, scopes=["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Security(common, scopes=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


async def wrong_inside(upload: UploadFile) -> None:
    await upload.read("all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await upload.write("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    upload.name  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
