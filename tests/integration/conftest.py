"""What every test here starts with."""

import logging

import pytest

LOGGERS = ("turboapi", "turboapi.access", "turboapi.error", "turboapi.server", "asyncio")
LOGGERS += ("uvicorn", "uvicorn.access", "uvicorn.error")


@pytest.fixture(autouse=True)
def plain_loggers():
    """Loggers as an application finds them: another test may have configured them."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.disabled, logger.propagate = False, True
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
