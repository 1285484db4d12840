#!/usr/bin/env bash
# Runs the tests in which threads meet on a free-threaded CPython 3.13 under ThreadSanitizer, interpreter and
# extension (the first build takes about 15 minutes and is cached). Fails for every race that is reported.
#
#   scripts/tsan_python.sh [FILE or option of pytest ...]      default: the files named below, a process for each
#
# Reports that are no faults of ours: CPython's own file of them, and scripts/tsan_suppressions.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
plain=$(scripts/build_python_ft.sh | tail -n 1)
python=$(TURBOAPI_FT_SANITIZE=thread scripts/build_python_ft.sh | tail -n 1)
venv=${TSAN_VENV:-.venv-tsan}
dir=$PWD/build/tsan-python
site=$PWD/$venv/lib/python3.13t/site-packages

# Everything is ten times slower: what is not under test is done by the ordinary interpreter.
stamp=$(cat requirements/free-threaded.txt "$python" | sha256sum | cut -c1-16)
if [ "$(cat "$venv/.stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$venv" "$dir"
    "$plain" -m compileall -q "$(dirname "$(dirname "$python")")/lib/python3.13t" >/dev/null || true
    TSAN_OPTIONS=report_bugs=0 "$python" -m venv --without-pip "$venv"
    mkdir -p "$dir"
    # Those that have no wheels take longer to build than all the rest, and test nothing here.
    grep -vE '^(-r|brotli|zstandard)' requirements/free-threaded.txt >"$dir.txt"
    "$plain" -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
        --target "$site" -r "$dir.txt"
    echo "$stamp" >"$venv/.stamp"
fi

# meson and ninja are those of the ordinary environment.
export PATH="$PWD/${VENV:-.venv}/bin:$PATH"
if [ ! -f "$dir/build.ninja" ]; then
    mkdir -p "$dir"
    printf "[binaries]\npython = '%s'\n" "$PWD/$venv/bin/python" >"$dir.ini"
    TSAN_OPTIONS=report_bugs=0 meson setup "$dir" --native-file "$dir.ini" -Dbuildtype=debugoptimized \
        -Db_sanitize=thread -Db_lundef=false >/dev/null
fi
TSAN_OPTIONS=report_bugs=0 ninja -C "$dir" --quiet
rm -rf "$site/turboapi" && mkdir "$site/turboapi"
for file in python/turboapi/*; do ln -s "$PWD/$file" "$site/turboapi/"; done
ln -s "$dir"/src/py/_core*.so "$site/turboapi/"

cat "$(dirname "$(dirname "$python")")/tsan_suppressions.txt" scripts/tsan_suppressions.txt >"$dir/suppressions.txt"
reports=$dir/reports
rm -rf "$reports" && mkdir "$reports"
# exitcode=0: a process of a test does not fail for a report; the file is what counts.
export TSAN_OPTIONS="suppressions=$dir/suppressions.txt log_path=$reports/tsan exitcode=0 die_after_fork=0"
TSAN_OPTIONS+=" history_size=3"
export PYTHON_GIL=0 TURBOAPI_SANITIZED=1
# --capture sys: a failed assertion of C is seen.
test=("$venv/bin/python" -m pytest -q --capture sys --timeout 900 -k "not leak and not flat and not held_once")
code=0
if [ $# -gt 0 ]; then
    "${test[@]}" "$@" || code=$?
else
    # A process for each file, as TSan never gives memory back: one for all took 10 GB and more.
    printf '%s\n' tests/integration/test_{stream,batches,pipelined_batches,other_threads,pool,big_responses}.py \
        tests/unit/test_{loop,plan_async,socket_transport,loop_executor,loop_anyio,heartbeat}.py \
        tests/threads/test_*.py |
        xargs -P "${JOBS:-2}" -I '{}' bash -c 'echo "{}"; "$@" "{}" >"$0/$(basename "{}").log" 2>&1 ||
            { cat "$0/$(basename "{}").log"; exit 1; }' "$dir" "${test[@]}" || code=$?
fi
if [ -n "$(ls "$reports")" ]; then
    cat "$reports"/*
    echo "tsan_python: $(cat "$reports"/* | grep -c '^WARNING: ThreadSanitizer') reports in $reports" >&2
    code=1
fi
exit "$code"
