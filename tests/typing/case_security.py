"""Security schemes as dependencies."""

from typing import Annotated, assert_type

from turboapi import Depends, FastAPI, Request, Security
from turboapi.openapi.models import HTTPBase
from turboapi.openapi.models import SecurityBase as SecurityBaseModel
from turboapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    OAuth2,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
    OAuth2PasswordRequestFormStrict,
    OpenIdConnect,
    SecurityScopes,
)
from turboapi.security.utils import get_authorization_scheme_param

app = FastAPI()
oauth2 = OAuth2PasswordBearer(tokenUrl="token", scopes={"me": "Read me"}, auto_error=False)
code = OAuth2AuthorizationCodeBearer(authorizationUrl="a", tokenUrl="b", refreshUrl="c")
basic = HTTPBasic(realm="shop")
bearer = HTTPBearer(bearerFormat="JWT", scheme_name="B")
header = APIKeyHeader(name="X-Key", description="the key")
schemes = [APIKeyQuery(name="k"), APIKeyCookie(name="k"), OpenIdConnect(openIdConnectUrl="u")]

assert_type(oauth2.model, SecurityBaseModel)
assert_type(oauth2.scheme_name, str)
assert_type(oauth2.auto_error, bool)
assert_type(get_authorization_scheme_param("Bearer a"), tuple[str, str])
assert_type(SecurityScopes(["me"]).scope_str, str)
assert_type(SecurityScopes().scopes, list[str])


async def calls(request: Request) -> None:
    assert_type(await oauth2(request), str | None)
    assert_type(await code(request), str | None)
    assert_type(await basic(request), HTTPBasicCredentials | None)
    assert_type(await bearer(request), HTTPAuthorizationCredentials | None)
    assert_type(await header(request), str | None)


def get_user(scopes: SecurityScopes, token: Annotated[str, Depends(oauth2)]) -> str:
    assert_type(scopes.scopes, list[str])
    return token


@app.post("/token")
async def login(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> str:
    assert_type(form.username, str)
    assert_type(form.password, str)
    assert_type(form.scopes, list[str])
    assert_type(form.client_id, str | None)
    return form.username


@app.get("/me")
def me(
    user: Annotated[str, Security(get_user, scopes=["me"])],
    credentials: Annotated[HTTPBasicCredentials, Depends(basic)],
    token: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
    key: Annotated[str, Security(header)],
    strict: Annotated[OAuth2PasswordRequestFormStrict, Depends()],
) -> str:
    assert_type(credentials.username, str)
    assert_type(token.credentials, str)
    assert_type(token.scheme, str)
    return user + key


class Own(OAuth2):
    def __init__(self) -> None:
        super().__init__(flows={"password": {"tokenUrl": "token"}}, scheme_name="Own")
        self.model = HTTPBase(scheme="own", description="ours")

    async def __call__(self, request: Request) -> str | None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return await super().__call__(request)


def wrong() -> None:
    OAuth2PasswordBearer()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    OAuth2PasswordBearer(token_url="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    OAuth2PasswordBearer("a", scopes=["me"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    HTTPBasic("shop")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    HTTPBearer(auto_error="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    APIKeyHeader()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Security(get_user, scopes="me")
    HTTPBasicCredentials(username="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
