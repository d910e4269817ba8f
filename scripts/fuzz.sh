#!/bin/sh
# Fuzzes every target of fuzz/ for so many seconds, with the stable compiler and nothing installed
# but g++: the coverage that libFuzzer wants is a pass of LLVM's that rustc runs when told to.
#
#   scripts/fuzz.sh SECONDS [TARGET...]
#
# What is found on the way is kept in target/fuzz/corpus; fuzz/corpus is only read. Ends with 1 when
# a target failed, and says where the input lies.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:?how many seconds per target}
shift
target=${CARGO_TARGET_DIR:-$PWD/target}
triple=$(rustc -vV | sed -n 's/^host: //p')
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "fuzz-\(.*\)"$/\1/p' fuzz/Cargo.toml)
bins=
for name; do bins="$bins --bin fuzz-$name"; done
# shellcheck disable=SC2086 # one word per program is meant
# No target triple, no separate flags: with one, build scripts and macros stay uninstrumented.
RUSTFLAGS="--cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
 -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
 -C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1" \
    cargo build --quiet --manifest-path fuzz/Cargo.toml --release --locked \
    --target "$triple" --target-dir "$target/fuzz" $bins
bin=$target/fuzz/$triple/release

fuzz() {
    mkdir -p "$target/fuzz/corpus/$1" "$target/fuzz/found"
    status=0
    "$bin/fuzz-$1" "$target/fuzz/corpus/$1" "fuzz/corpus/$1" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=16384 -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="$target/fuzz/found/$1-" >"$target/fuzz/$1.log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$target/fuzz/$1.log")
    if [ "$status" -eq 0 ] && [ "${runs:-0}" -gt 0 ]; then
        printf '| fuzz %s | %s s | %s executions | no panic, no hang, no leak of memory |\n' "$1" "$seconds" "$runs"
    else
        printf 'fuzz %s FAILED (%s):\n' "$1" "$status"
        grep -v '^#' "$target/fuzz/$1.log" | tail -n 30
        return 1
    fi
}

# Two at a time: the build machines have two cores.
failed=0
while [ $# -gt 0 ]; do
    fuzz "$1" & first=$!
    second=
    if [ $# -gt 1 ]; then fuzz "$2" & second=$!; shift; fi
    shift
    wait "$first" || failed=1
    if [ -n "$second" ]; then wait "$second" || failed=1; fi
done
exit "$failed"
