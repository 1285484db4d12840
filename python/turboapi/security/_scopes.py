"""The scopes of OAuth 2, for the modules that know nothing else of it."""


class SecurityScopes:
    """The scopes that all dependants up the chain require; ask for it by annotation.

    Attributes:
        scopes: the list.
        scope_str: the list joined by spaces, as RFC 6749, section 3.3 writes it.
    """

    __module__ = "turboapi.security.oauth2"

    def __init__(self, scopes: list[str] | None = None) -> None:
        self.scopes: list[str] = scopes or []
        self.scope_str: str = " ".join(self.scopes)
