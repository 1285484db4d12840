"""API keys in a query parameter, a header or a cookie.

See https://fastapi.tiangolo.com/reference/security/#api-key-security-schemes.
"""

from collections.abc import Mapping
from typing import ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from turboapi.openapi.models import APIKey, APIKeyIn
from turboapi.security.base import ChallengingScheme


class APIKeyBase(ChallengingScheme):
    """A key under `name`; the subclass knows where to look for it."""

    # No challenge is standardised for keys, yet a 401 must carry one (RFC 9110, 15.5.2).
    _challenge: ClassVar[str] = "APIKey"
    model: APIKey

    def __init__(
        self,
        location: APIKeyIn,
        name: str,
        description: str | None,
        scheme_name: str | None,
        auto_error: bool,
    ) -> None:
        model = APIKey.model_validate({"in": location, "name": name, "description": description})
        self._describe(model, scheme_name, auto_error)

    def make_not_authenticated_error(self) -> HTTPException:
        """Return the 401 of a request without a key."""
        return HTTPException(401, "Not authenticated", {"WWW-Authenticate": self._challenge})

    def check_api_key(self, api_key: str | None) -> str | None:
        """Return the key, None without one, or raises when there must be one."""
        if not api_key:
            self._refuse()
        return api_key or None


class _LocatedAPIKey(APIKeyBase):
    """A key in one fixed part of the request."""

    _location: ClassVar[APIKeyIn]

    def __init__(
        self,
        *,
        name: str,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        """Declare the key.

        Args:
            name: of the query parameter, header or cookie.
            scheme_name: in the OpenAPI document; default: the name of the class.
            description: in the OpenAPI document.
            auto_error: False returns `None` for a missing key instead of a 401, for optional
                authentication or one of several ways.
        """
        super().__init__(self._location, name, description, scheme_name, auto_error)

    def _values(self, request: HTTPConnection) -> Mapping[str, str]:
        raise NotImplementedError

    async def __call__(self, request: HTTPConnection) -> str | None:
        """Return the key of this request."""
        return self.check_api_key(self._values(request).get(self.model.name))


class APIKeyQuery(_LocatedAPIKey):
    """A key in the query string: `key: str = Depends(APIKeyQuery(name="api_key"))`."""

    _location = APIKeyIn.query

    def _values(self, request: HTTPConnection) -> Mapping[str, str]:
        return request.query_params


class APIKeyHeader(_LocatedAPIKey):
    """A key in a header: `key: str = Depends(APIKeyHeader(name="x-key"))`."""

    _location = APIKeyIn.header

    def _values(self, request: HTTPConnection) -> Mapping[str, str]:
        return request.headers


class APIKeyCookie(_LocatedAPIKey):
    """A key in a cookie: `session: str = Depends(APIKeyCookie(name="session"))`."""

    _location = APIKeyIn.cookie

    def _values(self, request: HTTPConnection) -> Mapping[str, str]:
        return request.cookies
