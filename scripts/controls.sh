#!/bin/bash
# Positive controls of the power-cut tests: leaves out one fsync at a time, in a program built for
# it (feature skip-sync), and expects a test to fail each time. A test that misses one proves
# nothing about the others.
#
#   scripts/controls.sh              every sync of src/recorder/sync.rs
#   scripts/controls.sh SITE...      these
#
# Needs root. About ten minutes. Ends with 1 when one is missed that is not known to be covered.
set -euo pipefail
cd "$(dirname "$0")/.."

# Left out, these cost nothing on ext4 and XFS, and why they stay.
declare -A covered=(
    [SegmentEnd]="all blocks were synced when appended; only the reserved room would stay longer"
    [RingFolder]="the file's own sync commits its name on both; POSIX promises that of neither"
    [PinFolder]="the seal's later syncs commit the links on both; POSIX does not promise it"
    [PinParents]="the same for the folders above"
    [SealName]="the manifest's name, synced after them, commits them in order on both"
    [ChainFolder]="the line's own sync commits the new file's name on both"
    [JournalFolder]="the same for the journal's files"
    [LiveState]="a copy of what the journal holds; costs at worst a replay"
    [GapRecord]="the next start finds the gap in the segments once more"
    [SecondsData]="nothing is promised of the last lines; the segments have the counts"
    [AccountingName]="the manifest's name, synced after them, commits them in order on both"
    [Recovered]="a second recovery does it again"
    [KeyName]="the journal's first line is synced after it and commits it on both"
)

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
    for name in ext4_keeps_every_promise_whatever xfs_keeps_every_promise_whatever \
        ext4_keeps_every_promise_through xfs_keeps_every_promise_through; do
        log=$(mktemp)
        if ! WW_SKIP_SYNC=$site WW_ROUNDS=30 cargo test --release --locked --test blackbox -- \
            "$name" --nocapture >"$log" 2>&1; then
            caught=$name
        fi
        rm -f "$log"
        [ -z "$caught" ] || break
    done
    if [ -n "$caught" ]; then
        printf 'controls: %-14s caught by %s\n' "$site" "$caught"
    elif [ -n "${covered[$site]:-}" ]; then
        printf 'controls: %-14s covered: %s\n' "$site" "${covered[$site]}"
    else
        printf 'controls: %-14s MISSED\n' "$site"
        missed=1
    fi
done
exit $missed
