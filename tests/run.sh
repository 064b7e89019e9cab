#!/usr/bin/env bash
# Everything that has to hold before a change is merged: style, lints, docs, unit tests, the ring's model, whole-product
# tests against real servers, a short fuzz run. Installs what is missing where it may; says what it had to skip.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
export CARGO_TERM_COLOR=never
skipped="$CARGO_TARGET_DIR/tests-skipped.txt"
failed=()
times=()

step() {
    printf '\n== %s\n' "$*"
}

# Notes and prints what a step that began at second $1 took.
took() {
    local line
    printf -v line '%5s s  %s' $((SECONDS - $1)) "$2"
    times+=("$line")
    printf -- '-- %s\n' "$line"
}

# Runs a step; a failure is remembered and the rest still runs, so that one run shows all that is wrong.
try() {
    local name=$1 begin=$SECONDS
    shift
    step "$name"
    "$@" || failed+=("$name")
    took "$begin" "$name"
}

# Program or file : Debian package.
needed=(
    mariadbd:mariadb-server-core mariadb-install-db:mariadb-server-core mariadb:mariadb-client
    /usr/share/mysql/mysql_system_tables.sql:mariadb-server-core
    /usr/lib/postgresql/15/bin/postgres:postgresql-15 /usr/lib/postgresql/15/bin/pgbench:postgresql-15
    psql:postgresql-client-15 sqlite3:sqlite3 /usr/include/sqlite3.h:libsqlite3-dev
    /usr/include/openssl/ssl.h:libssl-dev openssl:openssl sysbench:sysbench
    /usr/lib/python3/dist-packages/psycopg/__init__.py:python3-psycopg /usr/bin/python3:python3
    gcc:gcc g++:g++ nm:binutils strace:strace valgrind:valgrind git:git setpriv:util-linux
    dash:dash perl:perl ps:procps
)

install_missing() {
    local packages=() entry program package
    for entry in "${needed[@]}"; do
        program=${entry%%:*} package=${entry#*:}
        case $program in
        /*) [ -e "$program" ] || packages+=("$package") ;;
        *) command -v "$program" >/dev/null || packages+=("$package") ;;
        esac
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "not installed, and this is not root on Debian: ${packages[*]}; tests that need them will be skipped"
        return 0
    fi
    local begin=$SECONDS
    step "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # A package's own server must not start: the tests start theirs.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=yes
    fi
    apt-get -q update && apt-get -q install -y --no-install-recommends "${packages[@]}" ||
        echo "installation failed; tests that need them will be skipped"
    [ -z "$made" ] || rm -f $policy
    took "$begin" "installing packages"
}

has_nightly_miri() {
    command -v rustup >/dev/null && rustup component list --toolchain nightly 2>/dev/null | grep -q '^miri.*(installed)'
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
}

# Compare CPU with wall time, or what the same work costs at two times, so nothing else may run at the same time.
alone=(costs:: estimates_within_a_budget beside_eight_clients readings_cost_no_more bursts_pay_no_more)

costs() {
    cargo test --release -p perquery-tests --test integration -- --test-threads=1 "${alone[@]}"
}

# Servers, collectors and clients share the machine's cores; more tests at a time than this only time out.
whole_product() {
    cargo test --release -p perquery-tests --test integration -- \
        --test-threads="${PERQUERY_TEST_THREADS:-2}" "${alone[@]/#/--skip=}"
}

model() {
    RUSTFLAGS="--cfg loom" cargo test --release -p perquery-agent --lib \
        --target-dir "$CARGO_TARGET_DIR/loom" -- loom
}

miri() {
    # The ring and the segment's reader: the parts with unsafe code that Miri can follow.
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test -p perquery-agent --features reader --lib \
        --target-dir "$CARGO_TARGET_DIR/miri" -- segment
}

command -v cargo >/dev/null || {
    echo "cargo is missing: install Rust 1.95 or newer from https://rustup.rs" >&2
    exit 2
}
mkdir -p "$CARGO_TARGET_DIR"
rm -f "$skipped"
install_missing

try "format" cargo fmt --all --check
try "lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
try "documentation" docs
# Without it nothing below means anything.
begin=$SECONDS
step "release build"
cargo build --release --workspace
took "$begin" "release build"
try "unit tests" cargo test --release --workspace --exclude perquery-tests
try "harness tests" cargo test --release -p perquery-tests --lib
try "costs, alone on the machine" costs
try "whole product" whole_product
if grep -rqs 'cfg(.*loom' agent/src; then
    try "model of the ring" model
else
    echo "skipped: model of the ring: there is none" >>"$skipped"
fi
if has_nightly_miri; then
    try "Miri" miri
else
    echo "skipped: Miri: rustup +nightly component add miri" >>"$skipped"
fi
try "hardware counters, in an emulated machine" tests/hardware.sh
try "fuzz targets, ${PERQUERY_FUZZ_SECONDS:-10} s each" tests/fuzz.sh "${PERQUERY_FUZZ_SECONDS:-10}"

printf '\n== done\n'
printf '%s\n' "${times[@]}"
printf '%5s s  in total\n' "$SECONDS"
[ ! -s "$skipped" ] || sort -u "$skipped"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "everything holds"
