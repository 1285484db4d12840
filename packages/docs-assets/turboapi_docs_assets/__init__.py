"""The files of Swagger UI and ReDoc, which `turboapi.openapi.assets` finds here and serves."""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
