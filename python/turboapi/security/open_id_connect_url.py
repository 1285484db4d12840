"""OpenID Connect, as far as the OpenAPI document goes.

See https://fastapi.tiangolo.com/reference/security/#openid-connect.
"""

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from turboapi.openapi.models import OpenIdConnect as OpenIdConnectModel
from turboapi.security.base import ChallengingScheme


class OpenIdConnect(ChallengingScheme):
    """Describes the scheme and returns the Authorization header; verify it in a subclass."""

    def __init__(
        self,
        *,
        openIdConnectUrl: str,  # noqa: N803
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        """Declare the scheme.

        Args:
            openIdConnectUrl: the provider's discovery document.
            scheme_name: in the OpenAPI document; default: the name of the class.
            description: in the OpenAPI document.
            auto_error: False returns `None` without the header instead of a 401.
        """
        model = OpenIdConnectModel(openIdConnectUrl=openIdConnectUrl, description=description)
        self._describe(model, scheme_name, auto_error)

    def make_not_authenticated_error(self) -> HTTPException:
        """Return the 401 of a request without the header."""
        return HTTPException(401, "Not authenticated", {"WWW-Authenticate": self._challenge})

    async def __call__(self, request: HTTPConnection) -> str | None:
        """Return the header's value."""
        authorization = request.headers.get("Authorization")
        if not authorization:
            self._refuse()
        return authorization or None
