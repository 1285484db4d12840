"""Makes `import fastapi` import TurboAPI, where BENCH_FRAMEWORK is "turboapi"."""

import os

FRAMEWORK = os.environ.get("BENCH_FRAMEWORK", "turboapi")
if FRAMEWORK == "turboapi":
    import turboapi

    turboapi.as_fastapi()
