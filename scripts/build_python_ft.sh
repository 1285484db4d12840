#!/usr/bin/env bash
# Builds a free-threaded CPython 3.13 from Debian trixie's source package (about 3 minutes on 2 cores).
#
#   scripts/build_python_ft.sh [PREFIX]     default: ~/.cache/turboapi/python3.13t
#   TURBOAPI_FT_SANITIZE=thread             instruments the interpreter for ThreadSanitizer (PREFIX-tsan)
#
# Nothing is done when PREFIX/bin/python3.13t is there already; the last line printed is its path.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/turboapi
sanitize=${TURBOAPI_FT_SANITIZE:-}
prefix=${1:-$cache/python3.13t${sanitize:+-$sanitize}}
python=$prefix/bin/python3.13t
jobs=$(nproc)

if [ -x "$python" ]; then
    echo "$python"
    exit 0
fi

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

work=$(mktemp -d "${TMPDIR:-/tmp}/python-ft.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Debian 12 carries no 3.13; trixie does.  Its source list is used for this one fetch and not kept.
mirror=$(sed -nE 's/^deb (\[[^]]*\] )?(http[^ ]+) .*/\2/p; s/^URIs: *([^ ]+).*/\1/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v -- -security | head -n 1 || true)
if [ -z "$mirror" ]; then
    echo "build_python_ft: no Debian mirror found in /etc/apt/sources.list*" >&2
    exit 1
fi
lock=(-o DPkg::Lock::Timeout=300) # another apt-get may be at work
$sudo apt-get "${lock[@]}" update -qq
$sudo apt-get "${lock[@]}" install -y -qq --no-install-recommends build-essential dpkg-dev pkg-config \
    zlib1g-dev libssl-dev libffi-dev libbz2-dev liblzma-dev libsqlite3-dev uuid-dev xz-utils >/dev/null

mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
apt_options=(
    -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt" -o APT::Sandbox::User=root
)
cd "$work"
apt-get "${apt_options[@]}" update -qq
apt-get "${apt_options[@]}" source -qq --download-only python3.13
dpkg-source --no-check --skip-patches -x python3.13_*.dsc source >/dev/null

cd source
configure=(--prefix="$prefix" --disable-gil)
install=(make install)
if [ "$sanitize" = thread ]; then
    # Not --with-pydebug: packages have wheels for the ordinary ABI only. They come from another interpreter's pip.
    configure+=(--with-thread-sanitizer --disable-test-modules --with-ensurepip=no)
    # Compiling the library would take longer than all the rest: each module is, at its first import.
    install+=(PYTHON_FOR_BUILD=true)
    # The races that CPython knows of are said in its own file, of the same version.
    mkdir -p "$prefix"
    cp Tools/tsan/suppressions_free_threading.txt "$prefix/tsan_suppressions.txt"
else
    configure+=(--with-ensurepip=install)
fi
echo "build_python_ft: configuring and compiling (log: $prefix.log)" >&2
mkdir -p "$(dirname "$prefix")"
{
    ./configure "${configure[@]}"
    make -j"$jobs"
    "${install[@]}"
} >"$prefix.log" 2>&1 || { tail -n 30 "$prefix.log" >&2; exit 1; }
echo "$python"
