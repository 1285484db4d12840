"""What `fastapi` is: TurboAPI, FastAPI, or nothing, for what the libraries take alone."""

import os
import sys

FRAMEWORK = os.environ["BENCH_FRAMEWORK"]
ALONE = FRAMEWORK == "alone"
if FRAMEWORK == "turboapi":
    import turboapi

    turboapi.as_fastapi()
elif ALONE:
    sys.modules["fastapi"] = None
