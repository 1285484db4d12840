#!/usr/bin/env bash
# What takes too long for every change and rarely breaks: about four hours on 2 cores.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
stage() {
    local name=$1 begun=$SECONDS
    shift
    printf '\n=== %s\n' "$name"
    "$@" || failed+=("$name")
    printf '=== %s: %d s\n' "$name" $((SECONDS - begun))
}
stage "memory under load" make soak
stage "memory under load, uvloop" make soak ARGS="--option loop=uvloop"
stage "certificates, reloads, upgrades and killed workers under load" make endurance
stage "floods and slow clients" make floods ARGS="--seconds 1 --floor 5"
stage "tests beside eight busy processes, three times" scripts/test_under_load.sh
stage "suites of other projects on our event loop" make loop-suites
stage "Python 3.14 and 3.15" make new-pythons
stage "unchanged applications on twelve releases of FastAPI" make fastapi-versions
stage "wheel, on a Debian without a compiler" bash -c "make wheel && make try-wheel"
stage "free-threaded Python and threads under TSan" make tsan-python
stage "fuzz, 10 minutes a target" env FUZZ_SECONDS=600 make fuzz
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
