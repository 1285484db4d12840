"""Security schemes: what they accept, what they answer, how they describe themselves."""

import base64

import pytest

from turboapi import Depends, FastAPI, Security
from turboapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    HTTPBearer,
    HTTPDigest,
    OAuth2,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
    OAuth2PasswordRequestFormStrict,
    OpenIdConnect,
    SecurityScopes,
)
from turboapi.security.http import HTTPBase
from turboapi.security.utils import get_authorization_scheme_param
from turboapi.testclient import TestClient


def client(scheme, **settings) -> TestClient:
    app = FastAPI(**settings)

    @app.get("/")
    async def read(got=Security(scheme)):
        return {"got": got.model_dump() if hasattr(got, "model_dump") else got}

    return TestClient(app)


def basic(text: bytes) -> dict[str, str]:
    return {"authorization": b"Basic " + base64.b64encode(text)}


FLOW = {"tokenUrl": "t", "scopes": {}}

# scheme class and arguments, request arguments, what is given
ACCEPTED = [
    (APIKeyQuery, {"name": "key"}, {"params": {"key": "v"}}, "v"),
    (APIKeyHeader, {"name": "X-Key"}, {"headers": {"x-key": "v"}}, "v"),
    (APIKeyCookie, {"name": "key"}, {"headers": {"cookie": "key=v"}}, "v"),
    (
        HTTPBase,
        {"scheme": "Other"},
        {"headers": {"authorization": "Other  a b "}},
        ("Other", "a b"),
    ),
    (HTTPBearer, {}, {"headers": {"authorization": "bEARER t"}}, ("bEARER", "t")),
    (HTTPDigest, {}, {"headers": {"authorization": "Digest d"}}, ("Digest", "d")),
    (
        OAuth2,
        {"flows": {"password": FLOW}},
        {"headers": {"authorization": "what ever"}},
        "what ever",
    ),
    (OAuth2PasswordBearer, {"tokenUrl": "t"}, {"headers": {"authorization": "Bearer t"}}, "t"),
    (OAuth2PasswordBearer, {"tokenUrl": "t"}, {"headers": {"authorization": "Bearer"}}, ""),
    (
        OAuth2AuthorizationCodeBearer,
        {"tokenUrl": "t", "authorizationUrl": "a"},
        {"headers": {"authorization": "bearer t"}},
        "t",
    ),
    (OpenIdConnect, {"openIdConnectUrl": "u"}, {"headers": {"authorization": "x y"}}, "x y"),
]

# scheme class and arguments, the challenge, requests without usable credentials
REFUSED = [
    (APIKeyQuery, {"name": "key"}, "APIKey", [{}, {"params": {"key": ""}}]),
    (APIKeyHeader, {"name": "k"}, "APIKey", [{}]),
    (APIKeyCookie, {"name": "k"}, "APIKey", [{"headers": {"cookie": "other=1"}}]),
    (HTTPBase, {"scheme": "other"}, "Other", [{}, {"headers": {"authorization": "Other"}}]),
    (HTTPBasic, {}, "Basic", [{}, {"headers": {"authorization": "Bearer x"}}]),
    (HTTPBasic, {"realm": "r"}, 'Basic realm="r"', [{}]),
    (HTTPBearer, {}, "Bearer", [{}, {"headers": {"authorization": "Basic x"}}]),
    (HTTPDigest, {}, "Digest", [{}, {"headers": {"authorization": "Bearer x"}}]),
    (OAuth2, {}, "Bearer", [{}, {"headers": {"authorization": ""}}]),
    (OAuth2PasswordBearer, {"tokenUrl": "t"}, "Bearer", [{}, {"headers": {"authorization": "t"}}]),
    (OpenIdConnect, {"openIdConnectUrl": "u"}, "Bearer", [{}]),
]


@pytest.mark.parametrize(("kind", "arguments", "request_", "expected"), ACCEPTED)
def test_accepts(kind, arguments, request_, expected):
    answer = client(kind(**arguments)).get("/", **request_)
    assert answer.status_code == 200
    if isinstance(expected, tuple):
        expected = {"scheme": expected[0], "credentials": expected[1]}
    assert answer.json() == {"got": expected}


@pytest.mark.parametrize(("kind", "arguments", "challenge", "requests"), REFUSED)
def test_refuses(kind, arguments, challenge, requests):
    for request in requests:
        answer = client(kind(**arguments)).get("/", **request)
        assert answer.status_code == 401
        assert answer.json() == {"detail": "Not authenticated"}
        assert answer.headers["www-authenticate"] == challenge
        answer = client(kind(**arguments, auto_error=False)).get("/", **request)
        assert (answer.status_code, answer.json()) == (200, {"got": None})


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [(b"john:secret", "john", "secret"), (b":", "", ""), (b"a:b:c", "a", "b:c")],
)
def test_basic(text, user, password):
    answer = client(HTTPBasic()).get("/", headers=basic(text))
    assert answer.json() == {"got": {"username": user, "password": password}}


@pytest.mark.parametrize(
    "headers",
    [
        basic(b"no colon"),
        basic("ü:x".encode()),
        {"authorization": "Basic not base64!"},
        {"authorization": "Basic YQ"},
        {"authorization": "Basic"},
    ],
)
def test_malformed_basic_is_an_error_even_if_optional(headers):
    for auto_error in (True, False):
        answer = client(HTTPBasic(auto_error=auto_error)).get("/", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Basic"


def test_split_of_the_header():
    for text, expected in {
        None: ("", ""),
        "": ("", ""),
        "Bearer": ("Bearer", ""),
        "Bearer  a b ": ("Bearer", "a b"),
    }.items():
        assert get_authorization_scheme_param(text) == expected


def test_subclass_changes_the_answer():
    from turboapi import HTTPException

    class Mine(HTTPBearer):
        def make_not_authenticated_error(self):
            return HTTPException(403, "No")

    answer = client(Mine()).get("/")
    assert (answer.status_code, answer.json()) == (403, {"detail": "No"})


def test_names_and_descriptions_in_the_document():
    document = client(APIKeyHeader(name="k", scheme_name="mine", description="d")).get(
        "/openapi.json"
    )
    assert document.json()["components"]["securitySchemes"] == {
        "mine": {"type": "apiKey", "description": "d", "in": "header", "name": "k"}
    }
    assert document.json()["paths"]["/"]["get"]["security"] == [{"mine": []}]


def test_password_form():
    app = FastAPI()

    @app.post("/{kind}")
    def login(
        kind: str,
        loose: OAuth2PasswordRequestForm = Depends(),
    ):
        return vars(loose)

    @app.post("/x/strict")
    def strict(form: OAuth2PasswordRequestFormStrict = Depends()):
        return vars(form)

    http = TestClient(app)
    data = {"username": "u", "password": "p", "scope": "a  b"}
    expected = {
        "grant_type": None,
        "username": "u",
        "password": "p",
        "scopes": ["a", "b"],
        "client_id": None,
        "client_secret": None,
    }
    assert http.post("/loose", data=data).json() == expected
    assert http.post("/x/strict", data=data).status_code == 422
    data["grant_type"] = "password"
    assert http.post("/x/strict", data=data).json() == {**expected, "grant_type": "password"}
    data["grant_type"] = "other"
    assert http.post("/loose", data=data).json()["detail"][0]["type"] == "string_pattern_mismatch"


def test_scopes_of_a_chain():
    scheme = OAuth2PasswordBearer("t", scopes={"a": "A", "b": "B"})
    app = FastAPI()

    async def user(scopes: SecurityScopes, token: str = Depends(scheme)):
        return {"scopes": scopes.scopes, "text": scopes.scope_str, "token": token}

    async def active(user: dict = Security(user, scopes=["a"])):
        return user

    @app.get("/")
    async def read(user: dict = Security(active, scopes=["b", "a"])):
        return user

    answer = TestClient(app).get("/", headers={"authorization": "Bearer t"})
    assert answer.json() == {"scopes": ["b", "a"], "text": "b a", "token": "t"}
    security = app.openapi()["paths"]["/"]["get"]["security"]
    assert security == [{"OAuth2PasswordBearer": ["b", "a"]}]
