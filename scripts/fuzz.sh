#!/usr/bin/env bash
# Runs each libFuzzer target for FUZZ_SECONDS (default 60) seconds; a finding is kept in build/fuzz/findings.
#   scripts/fuzz.sh [TARGET ...]      e.g. scripts/fuzz.sh h1 json
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
export PATH="$PWD/$venv/bin:$PATH"
dir=build/fuzz
[ -f "$dir/build.ninja" ] || CC=clang meson setup "$dir" -Dfuzz=true -Dextension=false -Dbuildtype=debugoptimized \
    -Db_lundef=false >/dev/null
ninja -C "$dir" --quiet
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for program in "$dir"/fuzz/fuzz_*; do
        [ -f "$program" ] && [ -x "$program" ] && targets+=("$(basename "$program" | sed 's/^fuzz_//')")
    done
fi
seconds=${FUZZ_SECONDS:-60}
for target in "${targets[@]}"; do
    grown=$dir/corpus/$target
    mkdir -p "$grown" "$dir/findings"
    seeds=()
    [ -d "fuzz/corpus/$target" ] && seeds=("fuzz/corpus/$target")
    dict=()
    [ -f "fuzz/dict/$target.dict" ] && dict=(-dict="fuzz/dict/$target.dict")
    echo "== fuzz $target for $seconds s"
    log=$dir/$target.log
    if ! "$dir/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$dir/findings/$target-" ${dict[@]+"${dict[@]}"} "$grown" ${seeds[@]+"${seeds[@]}"} >"$log" 2>&1; then
        tail -n 40 "$log"
        echo "fuzz $target: failed, the input is in $dir/findings" >&2
        exit 1
    fi
    grep -E 'number_of_executed_units|peak_rss' "$log"
done
