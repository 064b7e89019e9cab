#!/usr/bin/env bash
# Builds perquery, profiles the sqlite3 shell over the statements in examples/quickstart/, and prints the report.
# On Debian and Ubuntu it installs what is missing; elsewhere it says what is.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v sqlite3 >/dev/null || missing+=(sqlite3)
command -v cargo >/dev/null || command -v curl >/dev/null || missing+=(curl ca-certificates)
if [ ${#missing[@]} -gt 0 ]; then
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    command -v apt-get >/dev/null || { echo "please install: ${missing[*]}" >&2; exit 2; }
    echo "installing: ${missing[*]}" >&2
    "${sudo[@]}" apt-get -q update >&2
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get -q install -y --no-install-recommends "${missing[@]}" >&2
fi
if ! command -v cargo >/dev/null; then
    echo "installing Rust with rustup" >&2
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal >&2
    export PATH="$HOME/.cargo/bin:$PATH"
fi

cargo build --release --quiet -p perquery-preload -p perquery-cli
perquery="${CARGO_TARGET_DIR:-target}/release/perquery"

shop=$(mktemp -d)
trap 'rm -rf "$shop"' EXIT
# The statements' own results are not what we came for. Some fail on purpose: the shell says so and goes on.
cat examples/quickstart/*.sql |
    "$perquery" run -o "$shop/shop.pq" -- sqlite3 "$shop/shop.db" >/dev/null 2>&1 || true

# Options of `perquery report` may follow: examples/quickstart.sh --format json
[ $# -gt 0 ] || set -- --top 6
"$perquery" report -i "$shop/shop.pq" "$@"
