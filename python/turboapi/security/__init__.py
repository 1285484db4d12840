"""Security schemes: dependencies that read credentials and describe themselves in OpenAPI.

Their modules are imported at the first use: they need the models of OpenAPI, which take long.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from turboapi.security._scopes import SecurityScopes

if TYPE_CHECKING:
    from turboapi.security.api_key import APIKeyCookie, APIKeyHeader, APIKeyQuery
    from turboapi.security.http import (
        HTTPAuthorizationCredentials,
        HTTPBasic,
        HTTPBasicCredentials,
        HTTPBearer,
        HTTPDigest,
    )
    from turboapi.security.oauth2 import (
        OAuth2,
        OAuth2AuthorizationCodeBearer,
        OAuth2PasswordBearer,
        OAuth2PasswordRequestForm,
        OAuth2PasswordRequestFormStrict,
    )
    from turboapi.security.open_id_connect_url import OpenIdConnect

_MODULES = {
    "api_key": ("APIKeyCookie", "APIKeyHeader", "APIKeyQuery"),
    "http": (
        "HTTPAuthorizationCredentials",
        "HTTPBasic",
        "HTTPBasicCredentials",
        "HTTPBearer",
        "HTTPDigest",
    ),
    "oauth2": (
        "OAuth2",
        "OAuth2AuthorizationCodeBearer",
        "OAuth2PasswordBearer",
        "OAuth2PasswordRequestForm",
        "OAuth2PasswordRequestFormStrict",
    ),
    "open_id_connect_url": ("OpenIdConnect",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


__all__ = [
    "APIKeyCookie",
    "APIKeyHeader",
    "APIKeyQuery",
    "HTTPAuthorizationCredentials",
    "HTTPBasic",
    "HTTPBasicCredentials",
    "HTTPBearer",
    "HTTPDigest",
    "OAuth2",
    "OAuth2AuthorizationCodeBearer",
    "OAuth2PasswordBearer",
    "OAuth2PasswordRequestForm",
    "OAuth2PasswordRequestFormStrict",
    "OpenIdConnect",
    "SecurityScopes",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return globals().setdefault(name, found)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_HOMES})
