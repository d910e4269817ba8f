#!/bin/bash
# The fault, load and endurance tests at their full length, one module after another.
#
#   scripts/soak.sh                    every module, then the fuzz targets, if there are any
#   SOAK=crash,links scripts/soak.sh   these alone (`fuzz` is one of the names)
#
#   SOAK_DIR      where logs, seeds and figures go (target/soak/<date>)
#   WW_SEED       repeats a run; otherwise one is drawn and kept in SOAK_DIR/seed
#   FUZZ_SECONDS  for each fuzz target (600)
#
# SOAK_DIR/results.md collects the figures as rows of a table. Ends with 1 when a module failed, and
# says which. Needs root, for the network namespaces, and a machine that does nothing else.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
known=(crash links clock goals power posix device account fanout thrift)
folder=${SOAK_DIR:-target/soak/$(date -u +%Y%m%dT%H%M%SZ)}
export WW_LONG=1 WW_SEED=${WW_SEED:-$(date +%s%N)}

fail() { printf 'soak: %s\n' "$*" >&2; exit 2; }

[ "$(id -u)" -eq 0 ] || fail "network namespaces need root; run: sudo make soak"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
export WW_RESULTS=$folder/results.md
echo "$WW_SEED" >"$folder/seed"

flags=(--release --locked --test blackbox)
cargo test "${flags[@]}" --no-run
tests=$(cargo test "${flags[@]}" -- --list 2>/dev/null | sed -n 's/: test$//p')

has() { grep -q "^$1::" <<<"$tests"; }
can_fuzz() { grep -q '^fuzz:' Makefile; }

chosen=()
if [ -n "${SOAK:-}" ]; then
	IFS=', ' read -r -a chosen <<<"$SOAK"
	for module in "${chosen[@]}"; do
		if [ "$module" = fuzz ]; then
			can_fuzz || fail "there are no fuzz targets"
		else
			has "$module" || fail "there is no test module $module"
		fi
	done
else
	for module in "${known[@]}"; do
		if has "$module"; then chosen+=("$module"); fi
	done
	if can_fuzz; then chosen+=(fuzz); fi
fi

{
	printf '\n## %s, %s\n\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" "$(uname -srm), $(nproc) CPUs"
	# shellcheck disable=SC2016 # the backticks are Markdown
	printf '`SOAK=%s WW_SEED=%s make soak` at %s\n\n' \
		"$(IFS=,; echo "${chosen[*]}")" "$WW_SEED" "$(git describe --always --dirty 2>/dev/null || echo unknown)"
	printf '| fault | how injected | count | figure |\n| --- | --- | --- | --- |\n'
} >>"$WW_RESULTS"

echo "soak: ${chosen[*]}; seed $WW_SEED; logs and figures in $folder"
failed=()
number=0
for module in "${chosen[@]}"; do
	number=$((number + 1))
	log=$folder/$module.log
	printf '%s  %d of %d  %s ... ' "$(date -u +%H:%M:%S)" "$number" "${#chosen[@]}" "$module"
	began=$SECONDS
	if [ "$module" = fuzz ]; then
		command=(make --no-print-directory fuzz "FUZZ_SECONDS=${FUZZ_SECONDS:-600}")
	else
		command=(cargo test "${flags[@]}" -- "$module::" --nocapture --test-threads=1)
	fi
	if "${command[@]}" >"$log" 2>&1; then
		verdict=passed
	else
		verdict="FAILED (see $log)"
		failed+=("$module")
	fi
	printf '%s after %d s\n' "$verdict" $((SECONDS - began))
done

echo
cat "$WW_RESULTS"
if [ ${#failed[@]} -gt 0 ]; then
	echo "soak: failed: ${failed[*]}" >&2
	exit 1
fi
