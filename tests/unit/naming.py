"""Names of parametrized tests."""

import re


def address_free(value: object) -> str:
    """Return what a value looks like, without its address: the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
