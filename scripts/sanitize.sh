#!/bin/sh
# The unit tests of the layers with `unsafe` in them (recorder, ring, packet, pcapng) twice more:
# under AddressSanitizer, then under valgrind, which also sees reads of memory never written and
# looks into libpcap. Both with one thread of tests at a time.
#
# AddressSanitizer is part of the stable toolchain, but asking for it is not stable yet: for this
# one build rustc is told to allow it. The program itself is never built so.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
triple=$(rustc -vV | sed -n 's/^host: //p')
layers='--manifest-path fuzz/Cargo.toml --release --locked --lib'

binary() { sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$1" | tail -n 1; }

say() { printf 'sanitize: %s\n' "$*"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# shellcheck disable=SC2086 # one word per argument is meant
RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' \
    cargo test $layers --target "$triple" --target-dir "$target/asan" --no-run 2>"$log" || { cat "$log"; exit 1; }
say 'AddressSanitizer'
ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 "$(binary "$log")" --test-threads 1

# shellcheck disable=SC2086
cargo test $layers --target "$triple" --target-dir "$target/fuzz-plain" --no-run 2>"$log" || { cat "$log"; exit 1; }
say 'valgrind memcheck'
valgrind --quiet --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite \
    "$(binary "$log")" --test-threads 1 slots socket filter writer recovery gaps isb
