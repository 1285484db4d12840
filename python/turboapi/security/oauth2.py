"""OAuth 2 (RFC 6749): the password form, schemes for bearer tokens, and required scopes.

See https://fastapi.tiangolo.com/reference/security/#oauth2-authentication.
"""

from typing import Annotated, Any

from starlette.requests import HTTPConnection

from turboapi.exceptions import HTTPException
from turboapi.openapi.models import OAuth2 as OAuth2Model
from turboapi.openapi.models import OAuthFlows as OAuthFlowsModel
from turboapi.param_functions import Form
from turboapi.security._scopes import SecurityScopes as SecurityScopes
from turboapi.security.base import ChallengingScheme
from turboapi.security.utils import get_authorization_scheme_param

_PASSWORD_FORMAT = {"format": "password"}


class OAuth2PasswordRequestForm:
    """The form of a token request with a password (RFC 6749, section 4.3.2), as a dependency.

    `form: Annotated[OAuth2PasswordRequestForm, Depends()]` gives an object with `grant_type`,
    `username`, `password`, `scopes` (the list in `scope`, split at white space), `client_id` and
    `client_secret`.  The standard demands `grant_type=password`; this class takes a form without
    it, `OAuth2PasswordRequestFormStrict` does not.
    """

    def __init__(
        self,
        *,
        grant_type: Annotated[str | None, Form(pattern="^password$")] = None,
        username: Annotated[str, Form()],
        password: Annotated[str, Form(json_schema_extra=_PASSWORD_FORMAT)],
        scope: Annotated[str, Form()] = "",
        client_id: Annotated[str | None, Form()] = None,
        client_secret: Annotated[str | None, Form(json_schema_extra=_PASSWORD_FORMAT)] = None,
    ) -> None:
        self.grant_type = grant_type
        self.username = username
        self.password = password
        self.scopes = scope.split()
        self.client_id = client_id
        self.client_secret = client_secret


class OAuth2PasswordRequestFormStrict(OAuth2PasswordRequestForm):
    """`OAuth2PasswordRequestForm`, but `grant_type=password` must be sent."""

    def __init__(
        self,
        grant_type: Annotated[str, Form(pattern="^password$")],
        username: Annotated[str, Form()],
        password: Annotated[str, Form()],
        scope: Annotated[str, Form()] = "",
        client_id: Annotated[str | None, Form()] = None,
        client_secret: Annotated[str | None, Form()] = None,
    ) -> None:
        super().__init__(
            grant_type=grant_type,
            username=username,
            password=password,
            scope=scope,
            client_id=client_id,
            client_secret=client_secret,
        )


class OAuth2(ChallengingScheme):
    """OAuth 2 in general: returns the whole Authorization header.

    The standard leaves the challenge open; it is `Bearer`, as that is what nearly all use.
    Override `make_not_authenticated_error()` for another.
    """

    def __init__(
        self,
        *,
        flows: OAuthFlowsModel | dict[str, dict[str, Any]] = OAuthFlowsModel(),
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        """Declare the scheme.

        Args:
            flows: the flows of the OpenAPI document, as model or dict.
            scheme_name: in the OpenAPI document; default: the name of the class.
            description: in the OpenAPI document.
            auto_error: False returns `None` without the header instead of a 401.
        """
        model = OAuth2Model.model_validate({"flows": flows, "description": description})
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


class _OAuth2Bearer(OAuth2):
    """A flow that ends in a bearer token: returns the token."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        """Return the token, which may be empty when only `Bearer` was sent."""
        scheme, token = get_authorization_scheme_param(request.headers.get("Authorization"))
        if scheme.lower() == "bearer":
            return token
        self._refuse()
        return None


class OAuth2PasswordBearer(_OAuth2Bearer):
    """A bearer token got with a password: `token: str = Depends(OAuth2PasswordBearer("token"))`.

    See https://fastapi.tiangolo.com/tutorial/security/simple-oauth2/.
    """

    def __init__(
        self,
        tokenUrl: str,  # noqa: N803
        scheme_name: str | None = None,
        scopes: dict[str, str] | None = None,
        description: str | None = None,
        auto_error: bool = True,
        refreshUrl: str | None = None,  # noqa: N803
    ) -> None:
        """Declare the scheme.

        Args:
            tokenUrl: where clients get the token; the route with `OAuth2PasswordRequestForm`.
            scheme_name: in the OpenAPI document; default: the name of the class.
            scopes: names and descriptions.
            description: in the OpenAPI document.
            auto_error: False returns `None` without a token instead of a 401.
            refreshUrl: where a token is renewed.
        """
        flow = {"tokenUrl": tokenUrl, "refreshUrl": refreshUrl, "scopes": scopes or {}}
        super().__init__(
            flows={"password": flow},
            scheme_name=scheme_name,
            description=description,
            auto_error=auto_error,
        )


class OAuth2AuthorizationCodeBearer(_OAuth2Bearer):
    """A bearer token got with an authorization code (RFC 6749, section 4.1)."""

    def __init__(
        self,
        authorizationUrl: str,  # noqa: N803
        tokenUrl: str,  # noqa: N803
        refreshUrl: str | None = None,  # noqa: N803
        scheme_name: str | None = None,
        scopes: dict[str, str] | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        """Declare the scheme; `authorizationUrl` is where the user grants access.

        The other arguments are those of `OAuth2PasswordBearer`.
        """
        flow = {
            "authorizationUrl": authorizationUrl,
            "tokenUrl": tokenUrl,
            "refreshUrl": refreshUrl,
            "scopes": scopes or {},
        }
        super().__init__(
            flows={"authorizationCode": flow},
            scheme_name=scheme_name,
            description=description,
            auto_error=auto_error,
        )
