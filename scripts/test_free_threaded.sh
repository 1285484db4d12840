#!/usr/bin/env bash
# Runs the tests on a free-threaded CPython 3.13 (built by scripts/build_python_ft.sh, cached).
# TURBOAPI_FT_PYTHON names another free-threaded interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${TURBOAPI_FT_PYTHON:-$(scripts/build_python_ft.sh | tail -n 1)}
venv=${FT_VENV:-.venv-ft}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
stamp=$(cat requirements/free-threaded.txt pyproject.toml | sha256sum | cut -c1-16)
if [ "$(cat "$venv/.stamp" 2>/dev/null)" != "$stamp" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements/free-threaded.txt
    "$venv/bin/python" -m pip uninstall --quiet --disable-pip-version-check --yes turboapi # its name of before
    PATH="$PWD/$venv/bin:$PATH" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation -e .
    echo "$stamp" >"$venv/.stamp"
fi
processes=() # tested on ordinary builds
for name in cli workers handover process_end process_options upgrade doctor shutdown_open interrupts; do
    processes+=("--ignore=tests/integration/test_$name.py")
done
# Once if its sources changed, not by each process.
PATH="$PWD/$venv/bin:$PATH" "$venv/bin/python" -c "import turboapi._core"
PATH="$PWD/$venv/bin:$PATH" PYTHON_GIL=0 "$venv/bin/python" -m pytest --numprocesses "${JOBS:-3}" --dist loadfile \
    tests/unit tests/integration tests/threads "${processes[@]}" "$@"
