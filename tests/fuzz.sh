#!/usr/bin/env bash
# Runs every fuzz target for some seconds: tests/fuzz.sh [SECONDS] [TARGET…]. Coverage-guided with the stable compiler:
# the instrumentation is LLVM's own pass (instrument.sh), the engine libFuzzer, built by its crate (hence g++).
set -euo pipefail
cd "$(dirname "$0")/fuzz"

seconds=${1:-10}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "fuzz_\(.*\)"$/\1/p' Cargo.toml)

target_dir="${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz"
if ! command -v g++ >/dev/null; then
    echo "skipped: fuzz targets: g++ is not installed" | tee -a "${target_dir%/fuzz}/tests-skipped.txt"
    exit 0
fi

RUSTC_WRAPPER="$PWD/instrument.sh" RUSTFLAGS="--cfg fuzzing" cargo build --release --quiet --target-dir "$target_dir"

status=0
for target in "${targets[@]}"; do
    corpus="$target_dir/corpus/$target"
    mkdir -p "$corpus"
    samples=()
    [ ! -d "samples/$target" ] || samples=("samples/$target")
    echo "-- $target"
    if ! "$target_dir/release/fuzz_$target" -max_total_time="$seconds" -max_len=65536 -timeout=10 \
        -rss_limit_mb=1024 -artifact_prefix="$target_dir/crash-$target-" -print_final_stats=1 \
        "$corpus" "${samples[@]}" >"$target_dir/$target.log" 2>&1; then
        tail -n 40 "$target_dir/$target.log"
        status=1
    fi
    grep -E 'number_of_executed_units|average_exec_per_sec|peak_rss_mb' "$target_dir/$target.log" || true
done
exit $status
