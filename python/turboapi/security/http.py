"""HTTP authentication: any scheme, Basic, Bearer and Digest (RFC 9110, section 11).

See https://fastapi.tiangolo.com/reference/security/#http-authentication-schemes.
"""

import base64
from typing import ClassVar

from pydantic import BaseModel
from starlette.requests import HTTPConnection

from turboapi.exceptions import HTTPException
from turboapi.openapi.models import HTTPBase as HTTPBaseModel
from turboapi.openapi.models import HTTPBearer as HTTPBearerModel
from turboapi.security.base import ChallengingScheme
from turboapi.security.utils import get_authorization_scheme_param


class HTTPBasicCredentials(BaseModel):
    """What `HTTPBasic` returns."""

    username: str
    password: str


class HTTPAuthorizationCredentials(BaseModel):
    """What the other schemes return: `Authorization: <scheme> <credentials>`, split in two."""

    scheme: str
    credentials: str


class HTTPBase(ChallengingScheme):
    """Any scheme of the Authorization header; the scheme sent is not compared."""

    model: HTTPBaseModel

    # What the scheme of the request must be (lower case), if anything.
    _expected: ClassVar[str | None] = None

    def __init__(
        self,
        *,
        scheme: str,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        """Declare the scheme.

        Args:
            scheme: its registered name, for the document and the challenge.
            scheme_name: in the OpenAPI document; default: the name of the class.
            description: in the OpenAPI document.
            auto_error: False returns `None` for missing credentials instead of a 401.
        """
        model = HTTPBaseModel(scheme=scheme, description=description)
        self._describe(model, scheme_name, auto_error)

    def make_authenticate_headers(self) -> dict[str, str]:
        """Return the challenge of the 401."""
        return {"WWW-Authenticate": self.model.scheme.title()}

    def make_not_authenticated_error(self) -> HTTPException:
        """Return the 401 of a request without usable credentials."""
        return HTTPException(401, "Not authenticated", self.make_authenticate_headers())

    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials | None:
        """Return the credentials of this request."""
        scheme, credentials = get_authorization_scheme_param(request.headers.get("Authorization"))
        usable = scheme and credentials and self._expected in (None, scheme.lower())
        if not usable:
            self._refuse()
            return None
        return HTTPAuthorizationCredentials(scheme=scheme, credentials=credentials)


class HTTPBasic(HTTPBase):
    """Basic (RFC 7617): `credentials: HTTPBasicCredentials = Depends(HTTPBasic())`."""

    def __init__(
        self,
        *,
        scheme_name: str | None = None,
        realm: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        """Declare the scheme.

        Args:
            scheme_name: in the OpenAPI document; default: the name of the class.
            realm: named in the challenge.
            description: in the OpenAPI document.
            auto_error: False returns `None` without Basic credentials; malformed ones are an
                error all the same.
        """
        super().__init__(
            scheme="basic", scheme_name=scheme_name, description=description, auto_error=auto_error
        )
        self.realm = realm

    def make_authenticate_headers(self) -> dict[str, str]:
        """Return the challenge, with the realm if there is one."""
        return {"WWW-Authenticate": f'Basic realm="{self.realm}"' if self.realm else "Basic"}

    async def __call__(  # type: ignore[override]
        self, request: HTTPConnection
    ) -> HTTPBasicCredentials | None:
        """Return user name and password of this request."""
        scheme, encoded = get_authorization_scheme_param(request.headers.get("Authorization"))
        if scheme.lower() != "basic":
            self._refuse()
            return None
        try:
            # Both ways of failing (base64, ASCII) are ValueErrors.
            text = base64.b64decode(encoded).decode("ascii")
        except ValueError as error:
            raise self.make_not_authenticated_error() from error
        username, colon, password = text.partition(":")
        if not colon:
            raise self.make_not_authenticated_error()
        return HTTPBasicCredentials(username=username, password=password)


class HTTPBearer(HTTPBase):
    """A bearer token (RFC 6750), whatever it means."""

    _expected = "bearer"

    def __init__(
        self,
        *,
        bearerFormat: str | None = None,  # noqa: N803
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        """Declare the scheme.

        Args:
            bearerFormat: a hint to the form of the token (`JWT`), for the document.
            scheme_name: in the OpenAPI document; default: the name of the class.
            description: in the OpenAPI document.
            auto_error: False returns `None` for missing credentials instead of a 401.
        """
        model = HTTPBearerModel(bearerFormat=bearerFormat, description=description)
        self._describe(model, scheme_name, auto_error)


class HTTPDigest(HTTPBase):
    """Digest (RFC 7616): splits the header only; the digest is the application's to check."""

    _expected = "digest"

    def __init__(
        self,
        *,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        """Declare the scheme; the arguments are those of `HTTPBase`."""
        super().__init__(
            scheme="digest", scheme_name=scheme_name, description=description, auto_error=auto_error
        )
