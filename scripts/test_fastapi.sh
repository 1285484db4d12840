#!/usr/bin/env bash
# The tests that ask FastAPI itself: unchanged applications on our server (tests/integration) and
# parity (tests/compat). Without FastAPI they are skipped, and it is no dependency of anything here:
# it goes into an environment of its own, .venv-fastapi, which has all else from .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
own=.venv-fastapi
list=requirements/fastapi.txt
if ! cmp -s "$list" "$own/.stamp"; then
    rm -rf "$own"
    "$venv/bin/python" -m venv "$own"
    where=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mine=$("$own/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "import site; site.addsitedir('$where')" >"$mine/beside.pth"
    "$own/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        -r "$list"
    cp "$list" "$own/.stamp"
fi
# meson and ninja, when the extension has to be built again
PATH="$PWD/$venv/bin:$PATH" exec "$own/bin/python" -m pytest \
    tests/integration/test_fastapi_bridge*.py tests/integration/test_fastapi_releases.py \
    tests/integration/test_fastapi_instrumentation.py tests/integration/test_fastapi_tutorial.py \
    tests/integration/test_middleware_semantics.py \
    tests/integration/test_request_semantics.py tests/integration/test_stream_semantics.py \
    tests/integration/test_overrides_semantics.py tests/compat "$@"
