#!/usr/bin/env bash
# Builds the C libraries that wheels carry, as requirements/libraries.txt pins them, and installs them into a folder.
#
#   scripts/build_libraries.sh PREFIX [NAME...]     default: all of them
#
#   DOWNLOADS   where the sources are kept (default build/downloads); a file that is there already is not fetched again
#
# Needs a C compiler, make, cmake, perl, curl, and tar with xz.  The exit status is 2 if a source cannot be fetched.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
prefix=$1
shift
wanted=" $* "
downloads=${DOWNLOADS:-$root/build/downloads}
work=$root/build/libraries
jobs=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
mkdir -p "$prefix" "$downloads" "$work"
prefix=$(cd "$prefix" && pwd)

checksum() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }

with_cmake() {
    cmake -S . -B out -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib \
        -DCMAKE_INSTALL_NAME_DIR="$prefix/lib" -DCMAKE_POLICY_VERSION_MINIMUM=3.5 "$@"
    cmake --build out --parallel "$jobs"
    cmake --install out
}

build_openssl() {
    # No program, no module: nothing is loaded at run time.
    ./config --prefix="$prefix" --openssldir=/etc/ssl --libdir=lib shared no-apps no-docs no-tests no-module no-legacy
    make -j "$jobs"
    make install_sw
}
build_zlib() {
    ./configure --prefix="$prefix"
    make -j "$jobs"
    make install
}
build_nghttp2() {
    ./configure --prefix="$prefix" --enable-lib-only --disable-static
    make -j "$jobs"
    make install
}
build_wslay() { with_cmake -DWSLAY_STATIC=OFF -DWSLAY_SHARED=ON -DWSLAY_TESTS=OFF; }
build_brotli() { with_cmake -DBROTLI_DISABLE_TESTS=ON; }
build_zstd() {
    make -C lib -j "$jobs" PREFIX="$prefix" libzstd
    make -C lib PREFIX="$prefix" install-pc install-includes install-shared
}

while read -r name version sha256 address <&3; do
    case $name in '' | '#'*) continue ;; esac
    [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || continue
    if [ -e "$prefix/.$name-$version" ]; then continue; fi
    source=$downloads/$name-$version.tar.${address##*.tar.}
    if [ ! -e "$source" ]; then
        curl --fail --silent --show-error --location --retry 3 --output "$source.part" "$address" || exit 2
        mv "$source.part" "$source"
    fi
    found=$(checksum "$source")
    if [ "$found" != "$sha256" ]; then
        echo "build_libraries: $source has the SHA-256 $found, expected $sha256 (requirements/libraries.txt)" >&2
        exit 1
    fi
    printf '== %s %s\n' "$name" "$version" >&2
    rm -rf "${work:?}/$name"
    mkdir -p "$work/$name"
    tar -xf "$source" -C "$work/$name" --strip-components=1
    if ! (cd "$work/$name" && "build_$name") >"$work/$name.log" 2>&1; then
        tail -n 40 "$work/$name.log" >&2
        exit 1
    fi
    touch "$prefix/.$name-$version"
done 3<"$root/requirements/libraries.txt"
