#!/usr/bin/env bash
# Builds TurboAPI on Pythons that Debian 12 does not carry, and runs the tests of the event loop and CPython's own
# test_asyncio there: in a root file system of Debian sid (debootstrap, about 4 minutes; made once and kept).
#
#   scripts/test_new_pythons.sh [3.14 3.15]
#   scripts/test_new_pythons.sh --whole [3.14 3.15]   all Python tests and the conformance ratchets of all three
#                                                     doors instead
#   TURBOAPI_SID=DIR      where that file system is; default: ~/.cache/turboapi/sid
#
# Needs root (chroot, mount). The exit status is 2, with the reason, when it cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
whole=
if [ "${1:-}" = --whole ]; then
    whole=1
    shift
fi
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(3.14 3.15)
sid=${TURBOAPI_SID:-${XDG_CACHE_HOME:-$HOME/.cache}/turboapi/sid}

. scripts/debian_root.sh
debian_root sid "$sid" gcc,libc6-dev,pkgconf,zlib1g-dev,libssl-dev,libwslay-dev,libnghttp2-dev

# The files as they are here, without what git ignores.
rm -rf "$sid/src/turboapi"
mkdir -p "$sid/src/turboapi"
git ls-files -z --cached --others --exclude-standard |
    tar --null --ignore-failed-read -cf - -T - 2>/dev/null | tar -xf - -C "$sid/src/turboapi"

cat >"$sid/src/run.sh" <<'INSIDE'
set -euo pipefail
version=$1
cd /src/turboapi
venv=/src/venv$version
if ! command -v "python$version" >/dev/null || [ ! -d "/usr/lib/python$version/test" ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "python$version-dev" \
        "python$version-venv" "libpython$version-testsuite" >/dev/null || exit 2
fi
[ -x "$venv/bin/python" ] || "python$version" -m venv "$venv"
export PATH="$venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
pip="python -m pip --disable-pip-version-check"
requirements=(-r requirements/new-pythons.txt)
if [ -n "$whole" ]; then
    apt-get install -y -qq --no-install-recommends curl git libbrotli-dev libzstd-dev nghttp2-client nginx-light \
        openssl procps >/dev/null || exit 2
    git init --quiet && git add --all # some tests ask git which files there are
    requirements=(-c tests/conformance/constraints.txt)
    for file in build example test; do requirements+=(-r "requirements/$file.txt"); done
    requirements+=(-r tests/conformance/requirements.txt)
    # Left out where there is no wheel for this Python.
    for name in orjson zstandard; do
        wanted=$(grep -h "^$name" tests/conformance/constraints.txt requirements/test.txt | head -n 1)
        if ! $pip download --quiet --no-deps --only-binary=:all: --dest /tmp "$wanted" 2>/dev/null; then
            echo "no wheel of $wanted for Python $version: left out"
            sed -i "/^$name/d" requirements/test.txt tests/conformance/requirements.txt
        fi
    done
fi
$pip install --quiet "${requirements[@]}"
build=(--no-build-isolation --config-settings=setup-args=-Db_ndebug=false
    --config-settings=setup-args=-Dbuildtype=debugoptimized)
if [ -n "$whole" ]; then # as make test
    $pip install --quiet "${build[@]}" --no-deps -e . ./packages/docs-assets
else
    $pip install --quiet "${build[@]}" .
fi
python --version
python -c 'import turboapi'
status=0
if [ -n "$whole" ]; then
    python -m pytest -q -p no:cacheprovider --numprocesses "${JOBS:-3}" --dist loadfile || status=1
    for door in asgi native h2; do
        python tests/conformance/ratchet.py --door "$door" || status=1
    done
    exit $status
fi
python -m pytest -q -p no:cacheprovider tests/unit/test_loop.py tests/unit/test_loop_executor.py \
    tests/unit/test_tasks.py tests/unit/test_selector.py tests/unit/test_server_lifetime.py \
    tests/integration/test_stream.py tests/integration/test_memory_reuse.py || status=1
python tests/conformance/asyncio_suite.py || status=1
exit $status
INSIDE

status=0
for version in "${versions[@]}"; do
    printf '\n=== Python %s\n' "$version"
    in_debian_root "$sid" env whole=$whole bash /src/run.sh "$version" && continue
    found=$?
    [ "$found" != 2 ] || echo "test_new_pythons: Debian sid has no Python $version" >&2
    status=1
done
exit $status
