#!/usr/bin/env bash
# All static checks; every one runs, the exit code tells whether any failed.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
export PATH="$PWD/$venv/bin:$PATH"
failed=()
check() {
    local name=$1
    shift
    if "$@"; then printf 'ok    %s\n' "$name"; else printf 'FAIL  %s\n' "$name"; failed+=("$name"); fi
}
c_files() { git ls-files 'src/**/*.[ch]' 'tests/c/*.[ch]' 'fuzz/*.c'; }
check "layers" python scripts/check_layers.py
check "imports" python scripts/check_imports.py
check "symbols" python scripts/check_symbols.py
check "sizes" python scripts/check_sizes.py
check "documents" python scripts/check_documents.py
check "clang-format" clang-format --dry-run -Werror $(c_files)
check "ruff format" ruff format --check --quiet .
check "ruff" ruff check --quiet .
check "mypy" mypy
check "pyright" pyright --pythonpath "$venv/bin/python"
check "stubtest" python -m mypy.stubtest turboapi._core --concise \
    --mypy-config-file pyproject.toml --allowlist scripts/stubtest_allowlist.txt
if [ ${#failed[@]} -gt 0 ]; then
    echo "lint failed: ${failed[*]}   (scripts/format.sh mends the formats)" >&2
    exit 1
fi
