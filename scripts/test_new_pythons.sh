#!/usr/bin/env bash
# Builds TurboAPI on Pythons that Debian 12 does not carry, and runs the tests of the event loop and CPython's own
# test_asyncio there: in a root file system of Debian sid (debootstrap, about 4 minutes; made once and kept).
#
#   scripts/test_new_pythons.sh [3.14 3.15]
#   TURBOAPI_SID=DIR      where that file system is; default: ~/.cache/turboapi/sid
#
# Needs root (chroot, mount). The exit status is 2, with the reason, when it cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(3.14 3.15)
sid=${TURBOAPI_SID:-${XDG_CACHE_HOME:-$HOME/.cache}/turboapi/sid}

missing() {
    echo "test_new_pythons: not run: $1" >&2
    exit 2
}

[ "$(id -u)" = 0 ] || missing "a chroot needs root"
if [ ! -f "$sid/.complete" ]; then
    command -v debootstrap >/dev/null || apt-get install -y -qq debootstrap >/dev/null ||
        missing "debootstrap cannot be installed"
    mirror=$(sed -nE 's/^deb (\[[^]]*\] )?(http[^ ]+) .*/\2/p; s/^URIs: *([^ ]+).*/\1/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v -- -security | head -n 1 || true)
    [ -n "$mirror" ] || missing "no Debian mirror in /etc/apt/sources.list*"
    rm -rf "$sid"
    mkdir -p "$(dirname "$sid")"
    echo "test_new_pythons: making $sid (log: $sid.log)" >&2
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,pkgconf,zlib1g-dev,libssl-dev,libwslay-dev,libnghttp2-dev \
        sid "$sid" "$mirror" >"$sid.log" 2>&1 || missing "debootstrap failed: $(tail -n 1 "$sid.log")"
    touch "$sid/.complete"
fi
cp -L /etc/resolv.conf /etc/hosts "$sid/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$sid/etc/ssl/certs/" # with what this machine trusts besides
# A mirror may be behind: whether its lists are too old is decided here as on this machine.
apt-config dump Acquire::Check-Valid-Until >"$sid/etc/apt/apt.conf.d/99turboapi"

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
python -m pip install --quiet --disable-pip-version-check -r requirements/new-pythons.txt
python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
    --config-settings=setup-args=-Db_ndebug=false --config-settings=setup-args=-Dbuildtype=debugoptimized .
python --version
python -c 'import turboapi'
status=0
python -m pytest -q -p no:cacheprovider tests/unit/test_loop.py tests/unit/test_tasks.py tests/unit/test_selector.py \
    tests/unit/test_server_lifetime.py tests/integration/test_stream.py || status=1
python tests/conformance/asyncio_suite.py || status=1
exit $status
INSIDE

status=0
for version in "${versions[@]}"; do
    printf '\n=== Python %s\n' "$version"
    unshare --mount bash -euc 'mount --bind /proc "$1/proc"; mount --rbind /dev "$1/dev"; exec chroot "$1" bash /src/run.sh "$2"' \
        _ "$sid" "$version" && continue
    found=$?
    [ "$found" != 2 ] || echo "test_new_pythons: Debian sid has no Python $version" >&2
    status=1
done
exit $status
