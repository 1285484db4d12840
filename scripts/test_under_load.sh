#!/usr/bin/env bash
# Runs the Python tests beside busy processes: deadlines and orders must hold on a loaded machine.
#
#   scripts/test_under_load.sh [pytest arguments]
#
# Settings: BUSY (8 processes), RUNS (3).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
busy=()
stop() { kill "${busy[@]}" 2>/dev/null || true; }
trap stop EXIT
for _ in $(seq "${BUSY:-8}"); do
    sh -c 'while :; do :; done' &
    busy+=($!)
done
export PATH="$PWD/$venv/bin:$PATH" # meson and ninja, when the extension has to be built again
for run in $(seq "${RUNS:-3}"); do
    printf '== run %s of %s beside %s busy processes\n' "$run" "${RUNS:-3}" "${BUSY:-8}"
    python -m pytest "$@"
done
