"""Names that the generated OpenAPI documents have in common."""

from typing import Final

# Methods whose operations may describe a request body.
METHODS_WITH_BODY: Final = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"}

# Where pydantic's definitions end up in the document, and the template pydantic fills in.
REF_PREFIX: Final = "#/components/schemas/"
REF_TEMPLATE: Final = REF_PREFIX + "{model}"
