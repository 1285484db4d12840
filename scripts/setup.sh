#!/usr/bin/env bash
# Sets up what a make target needs, from a bare Debian 12 or 13 (root or sudo) on.  Safe to run again.
#
#   scripts/setup.sh run     system headers, .venv, the package (editable), the example's packages
#   scripts/setup.sh test    the same with assertions (TA_ASSERT), and everything the tests and checks need
#   scripts/setup.sh bench   the same as test, but without assertions
#   scripts/setup.sh bench-real  the same as bench, and the servers that its applications ask
#   scripts/setup.sh docs    the same as run, with assertions, and mkdocs
#   scripts/setup.sh fuzz    the same as test, and clang
#   scripts/setup.sh suites  the same as test, and servers for the suites of other projects
#
# Settings: PYTHON (default python3, 3.11 or newer), VENV (default .venv).
set -euo pipefail
cd "$(dirname "$0")/.."

goal=${1:-run}
venv=${VENV:-.venv}

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

# Runs a command that takes a while: a sign of life every few seconds, and its output if it fails.
long() {
    local log started=$SECONDS told=0 worker
    log=$(mktemp)
    "$@" >"$log" 2>&1 &
    worker=$!
    trap 'kill "$worker" 2>/dev/null' EXIT # it would go on after Ctrl+C
    while kill -0 "$worker" 2>/dev/null; do
        sleep 0.2
        if [ $((SECONDS - started)) -ge $((told + 5)) ]; then
            told=$((SECONDS - started))
            printf '   %d s  %s\n' "$told" "$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-100)" >&2
        fi
    done
    if ! wait "$worker"; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    trap - EXIT
    rm -f "$log"
}

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

packages=(gcc libc6-dev pkg-config libssl-dev libnghttp2-dev libwslay-dev zlib1g-dev libbrotli-dev libzstd-dev)
if ! command -v "${PYTHON:-python3}" >/dev/null; then
    packages+=(python3 python3-venv python3-dev)
elif [ "$(command -v "${PYTHON:-python3}")" = /usr/bin/python3 ]; then
    packages+=(python3-venv python3-dev)
fi
if [ "$goal" = test ]; then
    packages+=(curl) # for what the pages of docs/ show
fi
if [ "$goal" = fuzz ]; then
    packages+=(clang libclang-rt-14-dev)
elif [ "$goal" = suites ] || [ "$goal" = bench-real ]; then
    packages+=(redis-server postgresql)
fi

missing=()
if command -v dpkg-query >/dev/null; then
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ -n "$sudo" ] && ! command -v sudo >/dev/null; then
        echo "setup: these packages are missing and there is no sudo; as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    say "installing ${missing[*]}"
    lock=(-o DPkg::Lock::Timeout=300) # another apt-get may be at work
    long $sudo apt-get "${lock[@]}" update
    long $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get "${lock[@]}" install -y --no-install-recommends "${missing[@]}"
fi

python=${PYTHON:-python3}
"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"setup: TurboAPI needs Python 3.11 or newer, this is {sys.version.split()[0]}; set PYTHON=...")
PY

if [ ! -x "$venv/bin/python" ]; then
    say "making $venv"
    "$python" -m venv "$venv"
fi
pip=(long "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off)
export PATH="$PWD/$venv/bin:$PATH" # meson and ninja, for the build without isolation

# The distribution was named `turboapi` before: of a clone of ours it is removed, so that its metadata, its loader and
# its command are not found beside those of `turboapi-c`.
if "$venv/bin/python" - <<'PY'
import sys
from importlib import metadata

try:
    old = metadata.distribution("turboapi")
except metadata.PackageNotFoundError:
    sys.exit(1)
sys.exit(not (old.metadata["Summary"] or "").startswith("FastAPI-compatible web framework whose request path"))
PY
then
    say "removing the distribution turboapi, which is named turboapi-c now"
    "$venv/bin/python" -m pip uninstall --quiet --disable-pip-version-check --yes turboapi
    rm -f "$venv/.stamp-run"
fi

# A stamp a goal: nothing is installed twice while the lists are the same.
stamp() { cat "$@" | sha256sum | cut -c1-16; }
constraints=tests/conformance/constraints.txt

ndebug=false
case $goal in run | bench | bench-real) ndebug=true ;; esac
build_stamp=ndebug-$ndebug-$(stamp pyproject.toml packages/docs-assets/pyproject.toml meson.build meson.options requirements/build.txt requirements/example.txt "$constraints")
if [ "$(cat "$venv/.stamp-run" 2>/dev/null)" != "$build_stamp" ]; then
    say "installing the build tools"
    "${pip[@]}" -r requirements/build.txt
    say "building TurboAPI and installing it with what the example needs"
    "${pip[@]}" --no-build-isolation --config-settings=setup-args=-Dbuildtype=release \
        --config-settings=setup-args=-Db_ndebug=$ndebug -e . ./packages/docs-assets -r requirements/example.txt -c "$constraints"
    echo "$build_stamp" >"$venv/.stamp-run"
fi
# What has changed since is built now, where meson and ninja are found and errors are seen once.
"$venv/bin/python" -c 'import turboapi._core'
if [ "$goal" = docs ]; then
    say "installing what the documentation needs"
    "${pip[@]}" -r requirements/docs.txt
elif [ "$goal" != run ]; then
    test_stamp=$(stamp requirements/test.txt tests/conformance/requirements.txt "$constraints")
    if [ "$(cat "$venv/.stamp-test" 2>/dev/null)" != "$test_stamp" ]; then
        say "installing what the tests need"
        "${pip[@]}" -r requirements/test.txt -r tests/conformance/requirements.txt -c "$constraints"
        echo "$test_stamp" >"$venv/.stamp-test"
    fi
fi
