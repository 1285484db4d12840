"""What `fastapi` is: TurboAPI, FastAPI, or nothing, for what the libraries take alone.

`alone-fastapi`: they are alone, too, but ask FastAPI's classes about routes where they can.
"""

import os
import sys

FRAMEWORK = os.environ["BENCH_FRAMEWORK"]
ALONE = FRAMEWORK in ("alone", "alone-fastapi")
if FRAMEWORK == "turboapi":
    import turboapi

    turboapi.as_fastapi()
elif FRAMEWORK == "alone":
    sys.modules["fastapi"] = None
