#!/usr/bin/env bash
# Formats C and Python in place.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
export PATH="$PWD/$venv/bin:$PATH"
clang-format -i $(git ls-files 'src/**/*.[ch]' 'tests/c/*.[ch]' 'fuzz/*.c')
ruff format --quiet .
ruff check --quiet --fix . || true
