#!/bin/bash
# Positive controls of the power-cut tests: leaves out one fsync at a time, in a program built for
# it (feature skip-sync), and expects a test to fail each time. A test that misses one proves
# nothing about the others.
#
#   scripts/controls.sh              every sync of src/recorder/sync.rs
#   scripts/controls.sh SITE...      these
#
# Needs root. About ten minutes. Ends with 1 when one is missed.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --features skip-sync
cp "$target/release/wirewitness" "$target/wirewitness-skip-sync"
cargo test --release --locked --no-run --test blackbox
export WIREWITNESS_BIN=$PWD/$target/wirewitness-skip-sync
[ "${target#/}" = "$target" ] || WIREWITNESS_BIN=$target/wirewitness-skip-sync

all=$(sed -n '/^pub enum Site/,/^}/s/^    \([A-Z][A-Za-z]*\),/\1/p' src/recorder/sync.rs)
missed=0
for site in ${*:-$all}; do
    caught=
    # ext4 and XFS make many a name last with the sync of something else, so the first is the strictest.
    for name in nothing_rests_on_more_than_posix_promises ext4_keeps_every_promise_whatever \
        ext4_keeps_every_promise_through; do
        log=$(mktemp)
        if ! WW_SKIP_SYNC=$site WW_ROUNDS=300 cargo test --release --locked --test blackbox -- \
            "$name" --nocapture >"$log" 2>&1; then
            caught=$name
        fi
        rm -f "$log"
        [ -z "$caught" ] || break
    done
    if [ -n "$caught" ]; then
        printf 'controls: %-14s caught by %s\n' "$site" "$caught"
    else
        printf 'controls: %-14s MISSED\n' "$site"
        missed=1
    fi
done
exit $missed
