"""The framework's logger."""

import logging

logger = logging.getLogger("turboapi")

# Logging set up for FastAPI (levels, handlers, filters of handlers) goes on working.
logger.parent = logging.getLogger("fastapi")
