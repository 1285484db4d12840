#!/usr/bin/env bash
# scripts/sanitize.sh address|thread
#   address: the extension with ASan+UBSan, the Python suite run with it (the C tests always are)
#   thread:  the C tests with TSan
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-address}
venv=${VENV:-.venv}
export PATH="$PWD/$venv/bin:$PATH"
dir=build/$kind
case $kind in
thread)
    [ -f "$dir/build.ninja" ] || meson setup "$dir" -Dtests=true -Dextension=false -Dbuildtype=debug \
        -Db_sanitize=thread -Db_lundef=false >/dev/null
    ninja -C "$dir" --quiet
    TSAN_OPTIONS=halt_on_error=1 meson test -C "$dir" --print-errorlogs --timeout-multiplier 8
    ;;
address)
    [ -f "$dir/build.ninja" ] || meson setup "$dir" -Dbuildtype=debugoptimized -Db_sanitize=address,undefined \
        -Db_lundef=false >/dev/null
    ninja -C "$dir" --quiet
    # The package's Python files beside the instrumented extension.
    site=$dir/site
    rm -rf "$site" && mkdir -p "$site/turboapi"
    for file in python/turboapi/*; do ln -s "$PWD/$file" "$site/turboapi/"; done
    ln -s "$PWD/$dir"/src/py/_core*.so "$site/turboapi/"
    # The editable installation would be found first: out of the way, in child processes too.
    cat >"$site/sitecustomize.py" <<'PY'
import sys

sys.meta_path[:] = [each for each in sys.meta_path if type(each).__name__ != "MesonpyMetaFinder"]
PY
    # What tests Python only is left out: everything is about ten times slower here.
    python_only=()
    for name in params_analysis params_declarations params_fields params_jsonmode params_support config log \
        importer docs_pages sockets; do
        python_only+=("--ignore=tests/unit/test_$name.py")
    done
    # So is what tests whole processes: most of it is the start of interpreters.
    for name in cli workers handover process_end process_options upgrade metrics doctor gunicorn shutdown_open interrupts \
        tls_process fastapi_releases fastapi_tutorial chromium; do
        python_only+=("--ignore=tests/integration/test_$name.py")
    done
    # Leaks are counted by tests of their own, which run without sanitizers (their figures mean
    # nothing with instrumented memory): CPython keeps memory for itself at exit.
    export PYTHONPATH=$PWD/$site
    preload="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
    LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 python -c \
        "import turboapi._core as c, sys; sys.exit('$dir' not in c.__file__ and c.__file__)"
    LD_PRELOAD=$preload \
        ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        PYTHONMALLOC=malloc TURBOAPI_SANITIZED=1 \
        python -m pytest -x -q --numprocesses "${JOBS:-3}" --dist loadfile --timeout 600 -k "not leak and not flat" \
        tests/unit tests/integration "${python_only[@]}" ${PYTEST_ARGS:-}
    ;;
*)
    echo "usage: $0 address|thread" >&2
    exit 2
    ;;
esac
