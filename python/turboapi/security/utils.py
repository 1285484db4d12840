"""Reading the Authorization header."""

from __future__ import annotations


def get_authorization_scheme_param(authorization_header_value: str | None) -> tuple[str, str]:
    """Split `scheme credentials` at the first space; two empty strings when there is nothing.

    See RFC 9110, section 11.6.2.
    """
    scheme, _, param = (authorization_header_value or "").partition(" ")
    return scheme, param.strip()
