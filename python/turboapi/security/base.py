"""What every security scheme has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from starlette.exceptions import HTTPException

    from turboapi.openapi.models import SecurityBase as SecurityBaseModel


class SecurityBase:
    """A scheme: a callable for `Depends`/`Security` that the OpenAPI document describes.

    Attributes:
        model: the scheme as the OpenAPI document shows it.
        scheme_name: its key under `components.securitySchemes`.
        auto_error: whether missing credentials are an error or return `None`.
    """

    model: SecurityBaseModel
    scheme_name: str
    auto_error: bool


class ChallengingScheme(SecurityBase):
    """A scheme that answers missing credentials with 401 and a challenge (RFC 9110, 15.5.2)."""

    _challenge: ClassVar[str] = "Bearer"

    def _describe(
        self, model: SecurityBaseModel, scheme_name: str | None, auto_error: bool
    ) -> None:
        """Set the three attributes; the name of the class is the default name."""
        self.model = model
        self.scheme_name = scheme_name or type(self).__name__
        self.auto_error = auto_error

    def make_not_authenticated_error(self) -> HTTPException:
        """Return the exception to raise; override it for another status or challenge."""
        raise NotImplementedError

    def _refuse(self) -> None:
        """Raise, or return None where credentials are optional (`auto_error=False`)."""
        if self.auto_error:
            raise self.make_not_authenticated_error()
