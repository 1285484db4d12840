"""Security schemes whose value C reads from a header field (credentials.c)."""

from typing import Any

from turboapi._untouched import is_from
from turboapi.security import api_key, oauth2

_BEARER = oauth2.OAuth2PasswordBearer.__call__
_KEY = api_key.APIKeyHeader.__call__
_CHECK, _VALUES = api_key.APIKeyHeader.check_api_key, api_key.APIKeyHeader._values


def credential(call: Any) -> tuple[bytes, bool, Any] | None:
    """Return the name of the field, whether it is a bearer's, and the method that reads it."""
    if not isinstance(call, oauth2.OAuth2 | api_key.APIKeyHeader):
        return None
    kind: Any = type(call)
    model: Any = call.model
    if kind.__call__ is _BEARER and is_from(_BEARER, oauth2):
        return b"authorization", True, _BEARER
    if (
        kind.__call__ is _KEY
        and kind.check_api_key is _CHECK
        and kind._values is _VALUES
        and all(is_from(each, api_key) for each in (_KEY, _CHECK, _VALUES))
        and model.name.isascii()
    ):
        return model.name.lower().encode(), False, _KEY
    return None
