# wirewitness. `make help` lists what there is.

SHELL := /bin/sh
TARGET := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET)/release/wirewitness
UI_SOURCES := $(shell find web -type f -not -path 'web/node_modules/*' -not -path 'web/dist/*' 2>/dev/null)

# One profile for everything (release), so that dependencies are compiled once: the load tests need
# an optimised recorder, and overflow checks are on in release as well.
CARGO_FLAGS := --release --locked

.DEFAULT_GOAL := build
.PHONY: help deps deps-test build ui run demo test check fmt-check clippy scripts-check ui-test \
	rust-test model-test fuzz-test fuzz fuzz-corpus sanitize browser-test doc soak test-long bench \
	bench-freeze bench-peers bench-precursor bench-storm clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ui ## User interface and program (the default)
	cargo build $(CARGO_FLAGS)

run: deps build ## Install what is missing, build, and start recording into ./var
	exec $(BINARY) run

demo: deps-test build ## Break a small network on purpose and show the packets before and after
	WIREWITNESS_BIN=$(abspath $(BINARY)) scripts/demo.sh

test: deps-test check ui-test rust-test model-test fuzz-test browser-test doc ## Everything CI runs, the cheap checks first

check: fmt-check scripts-check clippy ## Formatting and lints alone

deps: ## Install what building and running needs (as an ordinary user: say how)
	@scripts/deps.sh run

deps-test:
	@scripts/deps.sh test

fmt-check:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo fmt --manifest-path tests/loom/Cargo.toml --check

scripts-check:
	@for script in .ci/run scripts/*.sh; do [ -e "$$script" ] || continue; \
		case $$(head -n 1 "$$script") in *bash*) bash -n "$$script" ;; *) sh -n "$$script" ;; esac || exit 1; done

clippy: ui
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

# The user interface is rebuilt when one of its sources is newer than the last build.
ui: web/dist/index.html

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(UI_SOURCES)
	cd web && npm run build
	@touch $@

ui-test: ui
	cd web && npm test

rust-test: ui
	cargo test $(CARGO_FLAGS)

model-test: ## The hand-over of slots in every order of two threads
	cargo test --manifest-path tests/loom/Cargo.toml $(CARGO_FLAGS) --target-dir $(abspath $(TARGET))/loom

# Seconds per target.
FUZZ_SECONDS ?= 600

fuzz-test: ## Every fuzz target for a few seconds
	scripts/fuzz.sh 5

fuzz: deps-test ## Every fuzz target for FUZZ_SECONDS (600), two at a time
	scripts/fuzz.sh $(FUZZ_SECONDS)

fuzz-corpus: ## Write the seeds in fuzz/corpus anew
	cargo run --quiet --manifest-path fuzz/Cargo.toml $(CARGO_FLAGS) --target-dir $(abspath $(TARGET))/fuzz-plain --bin corpus -- fuzz/corpus

sanitize: deps-test ## The recorder's unit tests under AddressSanitizer and valgrind
	scripts/sanitize.sh

browser-test: build
	cd web && WIREWITNESS_BIN=$(abspath $(BINARY)) npm run e2e

doc:
	RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --no-deps --document-private-items

soak: deps-test ui ## Fault, load and endurance tests at full length (hours; SOAK=crash,links chooses)
	scripts/soak.sh

test-long: soak

bench: ui ## Benchmarks of the hot paths
	cargo bench --locked --bench hot_paths

bench-freeze: deps-test ui ## Packets lost per trigger: restarting tshark beside freezing
	cargo test $(CARGO_FLAGS) --test blackbox -- --ignored --nocapture comparison::

# As root. ARGS="--help" lists the options, ARGS=--quick takes a minute.
bench-peers: deps-test ui ## Loss and cost beside dumpcap, tcpdump and netsniff-ng (half an hour)
	cargo bench --locked --bench peers -- $(ARGS)

# ARGS="--seed 7 --targets 40 --weeks 3 --interval 1" are the defaults.
bench-precursor: ui ## Early signs beside fixed thresholds on simulated links (half an hour)
	cargo bench --locked --bench precursor -- $(ARGS)

# As root. ARGS="--only hooks,udp --seconds 60 --rate 10000"
bench-storm: deps-test ui ## Hook calls and log lines by the ten thousand (three minutes)
	cargo bench --locked --bench storm -- $(ARGS)

clean: ## Remove everything that was built (never ./var)
	cargo clean
	rm -rf $(TARGET)/loom $(TARGET)/fuzz $(TARGET)/fuzz-plain
	rm -rf web/dist web/node_modules
