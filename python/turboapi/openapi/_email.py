"""`EmailStr`: pydantic's when `email-validator` is there, else a string that warns."""

from typing import TYPE_CHECKING, Any

from turboapi.logger import logger

if TYPE_CHECKING:
    from pydantic import EmailStr
else:
    try:
        import email_validator  # noqa: F401
        from pydantic import EmailStr
    except ImportError:  # pragma: no cover
        from pydantic_core import core_schema

        class EmailStr(str):
            """Take any value as text, and log that nobody checks it."""

            __slots__ = ()

            @classmethod
            def validate(cls, v: Any) -> str:
                logger.warning(
                    "email-validator not installed, email fields will be treated as str.\n"
                    "To install, run: pip install email-validator"
                )
                return str(v)

            @classmethod
            def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
                return core_schema.no_info_plain_validator_function(cls.validate)

            @classmethod
            def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
                return {"type": "string", "format": "email"}


__all__ = ["EmailStr"]
