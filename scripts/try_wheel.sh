#!/usr/bin/env bash
# Installs the wheel of dist/ as a user without a compiler would, and serves an application over TLS and HTTP/2.
#
#   scripts/try_wheel.sh [bookworm|trixie]     default: bookworm
#
# The machine is a root file system with Python and nothing else (debootstrap; made once and kept in TURBOAPI_ROOTS,
# default ~/.cache/turboapi). Needs root. The exit status is 2, with the reason, when it cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${1:-bookworm}
root=${TURBOAPI_ROOTS:-${XDG_CACHE_HOME:-$HOME/.cache}/turboapi}/$suite

if ! ls dist/turboapi_c-*.whl dist/turboapi_c_docs-*.whl >/dev/null 2>&1; then
    echo "try_wheel: dist/ has no wheels; make wheel builds them" >&2
    exit 1
fi

. scripts/debian_root.sh
debian_root "$suite" "$root" python3,python3-venv,curl,openssl

rm -rf "$root/try"
mkdir -p "$root/try"
cp dist/turboapi_c-*.whl dist/turboapi_c_docs-*.whl "$root/try/"
cat >"$root/try/main.py" <<'APP'
from turboapi import FastAPI

app = FastAPI()


@app.get("/items/{item_id}")
async def read_item(item_id: int, q: str | None = None):
    return {"item_id": item_id, "q": q}
APP
cat >"$root/try/run.sh" <<'INSIDE'
set -euo pipefail
cd /try
if command -v cc gcc clang >/dev/null; then
    echo "there is a compiler" >&2
    exit 1
fi
python3 -m venv venv
tag=cp$(python3 -c 'import sys; print("%d%d" % sys.version_info[:2])')
wheel=$(ls ./turboapi_c-*-"$tag"-"$tag"-*.whl 2>/dev/null) || { echo "dist/ has no wheel for $tag" >&2; exit 1; }
venv/bin/pip install --quiet --disable-pip-version-check "$wheel[https]" ./turboapi_c_docs-*.whl
venv/bin/turboapi --version
venv/bin/turboapi cert localhost 127.0.0.1 >/dev/null
venv/bin/turboapi run main.py --host 127.0.0.1 --port 8443 --ssl-certfile cert.pem --ssl-keyfile key.pem &
server=$!
for _ in $(seq 100); do
    ! curl -s -o /dev/null --cacert authority.pem https://localhost:8443/ || break
    kill -0 $server # it would have said why
    sleep 0.2
done
trap 'kill $server' EXIT
ask() { curl -sS --fail --cacert authority.pem "$@"; }
for protocol in --http1.1 --http2; do
    answer=$(ask "$protocol" -w ' %{http_version}' https://localhost:8443/items/7)
    echo "$protocol: $answer"
    case "$protocol $answer" in
    '--http1.1 {"item_id":7,"q":null} 1.1' | '--http2 {"item_id":7,"q":null} 2') ;;
    *) exit 1 ;;
    esac
done
ask https://localhost:8443/docs | grep -q /docs/assets/swagger-ui-bundle.js
echo "/docs: without a CDN"
INSIDE
in_debian_root "$root" bash /try/run.sh
