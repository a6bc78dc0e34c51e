# What people type. Each target says what it needs when it cannot go on; nothing here is needed to read the code.
#
#   make demo          try volctl on this machine, with three clients on loop devices (root); KEEP=1 leaves it running
#   make test          format, lints, unit tests, and with root the tests on loop devices
#   make build         the program, optimised: $(RELEASE)
#   make lint          format and lints alone
#   make bench         measure locks, hand-overs, polls, refreshes (root); ARGS="handover --rounds 20"
#   make campaign      break things on real file systems for long (root): ROUNDS=300 FS=ext4 SEED=1; SWEEP=5 instead of
#                      rounds; docs/campaign.md. With -j3 the file systems run side by side
#   make clean

CARGO ?= cargo
# One place for both, so that a set CARGO_TARGET_DIR is honoured.
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release/volctl
KEEP ?=
ARGS ?=
FS ?= ext4 xfs btrfs
SEED ?= 1
ROUNDS ?= $(if $(SWEEP),,300)
SWEEP ?=

# Debian packages, and for each a command that shows whether it is there.
PACKAGES := e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs btrfs-progs:mkfs.btrfs util-linux:losetup gcc:cc

.DEFAULT_GOAL := build
.PHONY: build demo test test-plain test-root lint bench campaign campaign-built clean packages cargo root-for-demo root-for-bench root-for-campaign

build: cargo
	$(CARGO) build --release --package volctl

demo: root-for-demo packages build
	$(RELEASE) demo $(if $(KEEP),--keep)

test: packages lint
	$(CARGO) build --workspace
	$(MAKE) --no-print-directory test-plain test-root

# Whatever needs no privileges. Tests that need root and loop devices begin with loop_, or lie in a module that does.
test-plain: cargo
	$(CARGO) test --workspace --no-fail-fast -- --skip loop_

test-root: cargo
	@if [ "$$(id -u)" = 0 ]; then \
	    echo '$(CARGO) test --workspace --all-targets --no-fail-fast -- loop_'; \
	    $(CARGO) test --workspace --all-targets --no-fail-fast -- loop_; \
	else \
	    n=$$($(CARGO) test --quiet --workspace --all-targets -- loop_ --list 2>/dev/null | grep -c ': test$$'); \
	    echo "make test: $$n tests were left out: they make loop devices and mounts, and need root."; \
	    echo "           'cargo test --workspace -- loop_ --list' names them; run 'make test' as root for all."; \
	fi

lint: cargo
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

bench: root-for-bench packages build
	$(RELEASE) bench $(ARGS)

campaign: root-for-campaign packages $(addprefix campaign-on-,$(FS))

campaign-on-%: campaign-built
	$(TARGET)/proof/campaign --fs $* --seed $(SEED) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SWEEP),--sweep $(SWEEP)) $(ARGS)

campaign-built: cargo
	$(CARGO) build --profile proof --package volctl --package volctl-tests --bins

clean:
	$(CARGO) clean

cargo:
	@command -v $(CARGO) >/dev/null 2>&1 || { \
	    echo "make: Rust is needed (1.95 or newer; rust-toolchain.toml names the version), and '$(CARGO)' was not found."; \
	    echo "      See https://rustup.rs, or, under sudo, keep your path: sudo env PATH=\"\$$PATH\" make ..."; \
	    exit 1; }

# Installs only what is missing, and only where it can; without root it says what to install, and the tests that
# need it fail by name.
packages:
	@want=; \
	for pair in $(PACKAGES); do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v "$${pair#*:}" >/dev/null 2>&1 || want="$$want $${pair%%:*}"; \
	done; \
	if [ -z "$$want" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then \
	    echo "make: these packages are missing (Debian's names):$$want"; \
	    exit 0; \
	fi; \
	echo "apt-get install -y$$want"; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get install -y --no-install-recommends $$want || { apt-get update && apt-get install -y --no-install-recommends $$want; }

root-for-demo root-for-bench root-for-campaign:
	@[ "$$(id -u)" = 0 ] || { \
	    echo "make $(patsubst root-for-%,%,$@): this needs root: it makes loop devices and mounts file systems"; \
	    echo "      (in a directory of its own, and it takes all of it away again)."; \
	    echo "      sudo env PATH=\"\$$PATH\" make $(patsubst root-for-%,%,$@)"; \
	    exit 1; }
