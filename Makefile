# Two commands: `make run` and `make test`. Each does the set-up it needs on Debian or Ubuntu with Rust
# and Node. The rest is for those who work on this.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Where tests look for the programs that set-up builds.
export WICKETGATE_TEST_TOOLS ?= $(CURDIR)/target/tools
# Last, so that nothing of the machine is hidden by them.
export PATH := $(PATH):$(CURDIR)/target/tools/bin:$(CURDIR)/target/tools/venv/bin

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: run
run: ## Build everything and start the demo
	packaging/dev/set-up build
	$(MAKE) --no-print-directory web
	cargo build --release --locked --bin wicketgate
	exec $(TARGET)/release/wicketgate demo

.PHONY: test
test: ## Run every test and check, installing what they need
	packaging/dev/set-up test
	$(MAKE) --no-print-directory format-check web-check web web-pages lint doc rust-test

.PHONY: web
web: ## Build console and portal
	if [ -f web/package.json ]; then cd web && npm run build; fi

.PHONY: web-check
web-check: ## Types and unit tests of console and portal
	if [ -f web/package.json ]; then cd web && npm run check --if-present && npm test --if-present; fi

.PHONY: web-pages
web-pages: ## Look at every page in a real browser: screenshots, axe-core, console errors
	mkdir -p $(TARGET)
	cd web && npm run pages -- --out $(abspath $(TARGET))/pages

.PHONY: format-check
format-check:
	cargo fmt --all --check

.PHONY: lint
lint: ## Clippy, warnings are errors
	cargo clippy --workspace --all-targets --locked -- -D warnings
	# Without the tests, and so without their feature: the product as it is released.
	cargo clippy --workspace --locked -- -D warnings

.PHONY: doc
doc: ## The code's documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

.PHONY: rust-test
rust-test: ## Tests in Rust, with their number as the last line
	mkdir -p $(TARGET)
	status=0; \
	cargo test --workspace --locked --no-fail-fast 2>&1 | tee $(TARGET)/tests.log || status=$$?; \
	packaging/dev/count-tests $(TARGET)/tests.log || status=1; \
	exit $$status

.PHONY: openapi
openapi: ## Write openapi/wicketgate.json anew
	mkdir -p openapi
	cargo run --quiet --locked --bin wicketgate -- openapi > $(TARGET)/openapi.json
	mv $(TARGET)/openapi.json openapi/wicketgate.json

.PHONY: prove-authority
prove-authority: ## Every proof of the authority at full size; one JSON object as the last line
	packaging/dev/set-up test
	packaging/dev/set-up bench
	PROVE_DIR=$(abspath $(TARGET))/prove packaging/dev/prove tests/it/prove/items.json

.PHONY: prove-edge
prove-edge: ## Every proof of the edge at full size; one JSON object as the last line
	packaging/dev/set-up test
	packaging/dev/set-up prove
	PROVE_DIR=$(abspath $(TARGET))/prove packaging/dev/prove tests/it/prove/items-edge.json

.PHONY: fuzz
fuzz: ## Fuzz everything that reads foreign bytes, FUZZ_SECONDS (600) each
	packaging/dev/fuzz

.PHONY: bench-edge
bench-edge: ## Our edge beside nginx, haproxy and caddy; writes benches/RESULTS.md
	packaging/dev/set-up test
	packaging/dev/set-up bench
	cargo bench --locked --profile profiling --bench edge

.PHONY: bench-ca
bench-ca: ## Our authority beside step-ca; writes benches/RESULTS.md
	packaging/dev/set-up test
	packaging/dev/set-up bench
	cargo bench --locked --profile profiling --bench ca

.PHONY: deny
deny: ## Licences, advisories and banned crates (needs cargo-deny)
	cargo deny --locked check

.PHONY: clean-tools
clean-tools: ## Forget the programs that set-up built
	rm -rf target/tools web/node_modules
