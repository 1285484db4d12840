#!/usr/bin/env bash
# Builds the C tests with AddressSanitizer and UBSan and runs them.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
export PATH="$PWD/$venv/bin:$PATH"
dir=build/c-tests
[ -f "$dir/build.ninja" ] || meson setup "$dir" -Dtests=true -Dextension=false -Dbuildtype=debug \
    -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
ninja -C "$dir" --quiet
meson test -C "$dir" --print-errorlogs --timeout-multiplier 4
