#!/bin/sh
# cargo's compiler wrapper for the fuzz targets: our own crates get LLVM's coverage instrumentation, the others are
# compiled as ever (sqlparser alone would take minutes).
rustc=$1
shift
case " $* " in
*" --crate-name perquery_"* | *" --crate-name fuzz_"*)
    exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Ccodegen-units=1 -Cdebug-assertions=on -Coverflow-checks=on
    ;;
esac
exec "$rustc" "$@"
