# `make help` lists the targets.

CARGO ?= cargo
ARGS ?=

.PHONY: help demo build test parts audit lint bench bench-sim mutants clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build, then watch eight agents pull one image: make demo ARGS="--nodes 4 --kill 1"
	@scripts/install-parts.sh --demo
	$(CARGO) build --release --locked --bin longshore
	@./target/release/longshore demo $(ARGS)

build: ## the program, optimised, in target/release/longshore
	$(CARGO) build --release --locked --bin longshore

# In CI a missing part is a failure; elsewhere the tests that need it say so and are skipped.
parts: ## install what the tests run against (containerd, docker-registry, ...), if missing
	@scripts/install-parts.sh || [ -z "$${CI:-}" ]

test: parts ## all tests, the ones against real parts included
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    echo "$(CARGO) nextest run"; \
	    $(CARGO) nextest run --workspace --locked --no-fail-fast; \
	else \
	    echo "$(CARGO) test"; \
	    $(CARGO) test --workspace --locked --no-fail-fast; \
	fi
	$(CARGO) test --workspace --locked --doc

audit: ## are simulations the same in a release build as in the tests' debug build, and the same twice?
	$(CARGO) run --release --locked --package longshore-sim --example pins -- sim/tests/snapshots/audit__pinned_hashes.snap

lint: ## formatting, clippy and documentation, all warnings denied
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --locked --no-deps --document-private-items

bench: ## measure against nginx on this machine; prints the tables of BENCHMARKS.md
	@scripts/install-parts.sh --bench
	$(CARGO) bench --locked --package longshore --bench real -- $(ARGS)

# A build of its own, because every crate that depends on the core has the bugs in it.
mutants: ## hunt planted bugs, write sim/MUTANTS.md: make mutants ARGS="--budget 20"
	RUSTFLAGS="--cfg longshore_mutants" $(CARGO) run --release --locked --package longshore-sim --example mutants \
	    --target-dir target/mutants -- $(ARGS)

bench-sim: ## measure the simulator; ARGS: rollout-1000 steady-1000 rollout-10000 fuzz-10 fuzz-100 fuzz-1000
	$(CARGO) run --release --locked --package longshore-sim --example bench -- $(ARGS)

clean: ## remove what was built
	$(CARGO) clean
