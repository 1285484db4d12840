"""An application as FastAPI's tutorial builds it, for any release from 0.133.

`TUTORIAL_WITH` names an instrumentation to put into it: "sentry" or "opentelemetry".
"""

import os
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    Security,
    UploadFile,
    status,
)
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from fastapi.security import (
    APIKeyHeader,
    HTTPBasic,
    HTTPBasicCredentials,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
    SecurityScopes,
)
from pydantic import BaseModel, EmailStr, Field, HttpUrl

WITH = os.environ.get("TUTORIAL_WITH", "")
if WITH == "sentry":
    import sentry_sdk

    sentry_sdk.init(dsn=None, traces_sample_rate=1.0)


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.ready = True
    yield {"started": "yes"}


app = FastAPI(title="Tutorial", lifespan=lifespan)
app.add_middleware(CORSMiddleware, allow_origins=["http://localhost"], allow_methods=["*"])
log: list[str] = []


class ModelName(str, Enum):  # noqa: UP042
    alexnet = "alexnet"
    lenet = "lenet"


class Image(BaseModel):
    url: HttpUrl
    name: str


class Item(BaseModel):
    name: str
    description: str | None = Field(default=None, max_length=30)
    price: float = Field(gt=0)
    tax: float | None = None
    tags: set[str] = set()
    images: list[Image] | None = None


class UserIn(BaseModel):
    username: str
    password: str
    email: EmailStr | None = None


class UserOut(BaseModel):
    username: str
    email: EmailStr | None = None


class Filters(BaseModel):
    model_config = {"extra": "forbid"}
    limit: int = Field(100, gt=0, le=100)
    tags: list[str] = []


class UnicornError(Exception):
    pass


@app.exception_handler(UnicornError)
async def on_unicorn(request: Request, exc: UnicornError):
    return JSONResponse({"message": "rainbow"}, status_code=418)


@app.exception_handler(RequestValidationError)
async def on_invalid(request: Request, exc: RequestValidationError):
    return JSONResponse({"where": [e["loc"] for e in exc.errors()], "body": exc.body}, 422)


@app.get("/")
async def root():
    return {"message": "Hello World"}


@app.get("/items/{item_id}")
async def read_item(item_id: int, q: str | None = None, short: bool = False):
    return {"item_id": item_id, "q": q, "short": short}


@app.get("/models/{name}")
async def model(name: ModelName):
    return {"name": name, "is": name is ModelName.alexnet}


@app.get("/files/{path:path}")
async def file_path(path: str):
    return path


@app.post("/items/", status_code=status.HTTP_201_CREATED)
async def create_item(item: Item):
    return {**item.model_dump(), "tags": sorted(item.tags)}


@app.put("/items/{item_id}")
async def update_item(item_id: Annotated[int, Path(ge=0, le=1000)], item: Item | None = None):
    return {"item_id": item_id, "item": item}


@app.patch("/several/{item_id}")
async def several(item_id: int, item: Item, user: UserIn, importance: Annotated[int, Body(gt=0)]):
    return [item_id, item.name, user.username, importance]


@app.post("/embedded")
async def embedded(item: Annotated[Item, Body(embed=True)]):
    return item.price


@app.post("/index-weights/")
async def weights(weights: dict[int, float]):
    return weights


@app.get("/checked")
async def checked(
    q: Annotated[str | None, Query(min_length=3, pattern="^fixed")] = None,
    many: Annotated[list[str], Query()] = ["a", "b"],  # noqa: B006
    alias: Annotated[str | None, Query(alias="item-query")] = None,
):
    return [q, many, alias]


@app.get("/filters")
async def filters(filters: Annotated[Filters, Query()]):
    return filters


@app.get("/types/{item_id}")
async def types(item_id: UUID, start: datetime, after: timedelta):
    return {"item_id": item_id, "start": start + after}


@app.get("/cookies")
async def cookies(ads_id: Annotated[str | None, Cookie()] = None):
    return ads_id


@app.get("/headers")
async def headers(
    user_agent: Annotated[str | None, Header()] = None,
    x_token: Annotated[list[str] | None, Header()] = None,
):
    return [user_agent, x_token]


@app.post("/user", response_model=UserOut)
async def create_user(user: UserIn):
    return user


@app.get("/portal")
def portal(teleport: bool = False) -> Response:
    return RedirectResponse("/there") if teleport else JSONResponse({"message": "here"})


@app.get("/unset", response_model=Item, response_model_exclude_unset=True)
async def unset():
    return {"name": "Foo", "price": 50.2}


@app.post("/login")
async def login(username: Annotated[str, Form()], password: Annotated[str, Form()]):
    return {"username": username}


@app.post("/form-model")
async def form_model(data: Annotated[UserIn, Form()]):
    return data.username


@app.post("/upload")
async def upload(
    file: UploadFile, raw: Annotated[bytes, File()], note: Annotated[str | None, Form()] = None
):
    return [file.filename, len(await file.read()), len(raw), note]


@app.get("/missing/{item_id}")
async def missing(item_id: str):
    raise HTTPException(404, "Item not found", headers={"X-Error": "There goes my error"})


@app.get("/unicorn")
async def unicorn():
    raise UnicornError


def common(q: str | None = None, skip: int = 0, limit: int = 100):
    return {"q": q, "skip": skip, "limit": limit}


class Pages:
    def __init__(self, page: int = 1):
        self.page = page


async def session():
    log.append("open")
    try:
        yield "session"
    finally:
        log.append("close")


def verify(x_key: Annotated[str, Header()]):
    if x_key != "secret":
        raise HTTPException(400, "X-Key header invalid")


@app.get("/common", dependencies=[Depends(verify)])
async def with_common(
    commons: Annotated[dict, Depends(common)], pages: Annotated[Pages, Depends()]
):
    return {**commons, "page": pages.page}


@app.get("/session")
async def with_session(s: Annotated[str, Depends(session)]):
    return s


oauth2 = OAuth2PasswordBearer(tokenUrl="token", scopes={"me": "Read", "items": "Items"})
basic, key = HTTPBasic(), APIKeyHeader(name="x-api-key")


def user(scopes: SecurityScopes, token: Annotated[str, Depends(oauth2)]):
    return {"token": token, "scopes": scopes.scopes}


@app.post("/token")
async def token(form: Annotated[OAuth2PasswordRequestForm, Depends()]):
    return {"access_token": form.username, "scopes": form.scopes}


@app.get("/me")
async def me(user: Annotated[dict, Security(user, scopes=["me"])]):
    return user


@app.get("/basic")
def with_basic(credentials: Annotated[HTTPBasicCredentials, Depends(basic)]):
    return credentials.username


@app.get("/key")
async def with_key(key: Annotated[str, Security(key)]):
    return key


@app.post("/notify/{address}")
async def notify(address: str, tasks: BackgroundTasks):
    tasks.add_task(log.append, address)
    return {"message": "sent"}


@app.get("/response")
def response(response: Response):
    response.headers["X-Cat"] = "alone"
    response.set_cookie("fakesession", "value")
    return {"message": "a cookie"}


@app.get("/html", response_class=HTMLResponse)
async def html():
    return "<html></html>"


@app.get("/text", response_class=PlainTextResponse)
def text():
    return "text"


@app.get("/legacy")
def legacy():
    return Response("<a/>", media_type="application/xml")


@app.get("/stream")
async def stream():
    return StreamingResponse(iter(["a", "b"]), media_type="text/plain")


@app.delete("/items/{item_id}", status_code=204)
async def delete(item_id: int):
    return None


@app.get("/request")
async def request(request: Request):
    return [request.url.path, request.app.state.ready, request.state.started, str(request.base_url)]


@app.get("/any")
async def anything() -> Any:
    return {"when": datetime(2020, 1, 2), "tuple": (1, 2)}


router = APIRouter(prefix="/users", tags=["users"], dependencies=[Depends(common)])


@router.get("/")
async def users():
    return [{"username": "Rick"}]


@router.get("/{username}", response_model=UserOut, name="one user")
async def one_user(username: str, request: Request):
    return {"username": username, "password": "x"}


app.include_router(router, prefix="/v1")

if WITH == "opentelemetry":
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(app)
