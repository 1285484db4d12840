"""Security schemes whose value C reads from a header field (credentials.c)."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from turboapi._untouched import is_from
from turboapi.security import api_key, http, oauth2

_BEARER = oauth2.OAuth2PasswordBearer.__call__
_KEY = api_key.APIKeyHeader.__call__
_HTTP = http.HTTPBearer.__call__
_CREDENTIALS: Any = http.HTTPAuthorizationCredentials
_INIT: Any = BaseModel.__init__
_CHECK, _VALUES = api_key.APIKeyHeader.check_api_key, api_key.APIKeyHeader._values

Make = Callable[[dict[str, str]], Any]


def credential(call: Any) -> tuple[bytes, bool, Any, Make | None] | None:
    """Return what the plan's node has of a scheme that C can read.

    That is the name of the field, whether it is a bearer's, the method that reads it, and what
    makes the value of scheme and credentials, if it is not the text.
    """
    if not isinstance(call, oauth2.OAuth2 | api_key.APIKeyHeader | http.HTTPBearer):
        return None
    kind: Any = type(call)
    model: Any = call.model
    if kind.__call__ is _BEARER and is_from(_BEARER, oauth2):
        return b"authorization", True, _BEARER, None
    if (
        isinstance(call, http.HTTPBearer)
        and kind.__call__ is _HTTP
        and is_from(_HTTP, http)
        and call._expected == "bearer"
        and http.HTTPAuthorizationCredentials is _CREDENTIALS
        and _CREDENTIALS.__init__ is _INIT
    ):
        return b"authorization", True, _HTTP, _CREDENTIALS.__pydantic_validator__.validate_python
    if (
        kind.__call__ is _KEY
        and kind.check_api_key is _CHECK
        and kind._values is _VALUES
        and all(is_from(each, api_key) for each in (_KEY, _CHECK, _VALUES))
        and model.name.isascii()
    ):
        return model.name.lower().encode(), False, _KEY, None
    return None
