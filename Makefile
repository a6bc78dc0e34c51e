# What people type. Each target says what it needs when it cannot go on; nothing here is needed to read the code.
#
#   make demo          try volctl on this machine, with three clients on loop devices (root); KEEP=1 leaves it running
#   make test          format, lints, unit tests, and with root the tests on loop devices
#   make build         the program and the window, optimised: $(RELEASE), and volctl-gui beside it
#   make lint          format and lints alone
#   make pictures      the pictures of docs/gui.md, from a real run (root)
#   make bench         measure locks, hand-overs, polls, refreshes (root); ARGS="handover --rounds 20"
#   make clean

CARGO ?= cargo
# One place for both, so that a set CARGO_TARGET_DIR is honoured.
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release/volctl
KEEP ?=
ARGS ?=

# Debian packages, and for each a command that shows whether it is there.
PACKAGES := e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs btrfs-progs:mkfs.btrfs util-linux:losetup gcc:cc
# What the tests of the window need besides. Libraries have no command: they come with the first that is missing.
WINDOW_PACKAGES := xvfb:Xvfb xdotool:xdotool imagemagick:import
WINDOW_LIBRARIES := libgl1-mesa-dri libxkbcommon-x11-0

.DEFAULT_GOAL := build
.PHONY: build program demo test test-plain test-root lint bench pictures clean packages window-packages cargo
.PHONY: root-for-demo root-for-bench root-for-pictures

build: program
	$(CARGO) build --release --package volctl-gui

# Without the window, which takes far longer to build.
program: cargo
	$(CARGO) build --release --package volctl

demo: root-for-demo packages program
	$(RELEASE) demo $(if $(KEEP),--keep)

test: window-packages lint
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

bench: root-for-bench packages program
	$(RELEASE) bench $(ARGS)

pictures: root-for-pictures window-packages cargo
	$(CARGO) test --package volctl-tests -- --ignored loop_the_pictures_of_the_document_are_made

clean:
	$(CARGO) clean

cargo:
	@command -v $(CARGO) >/dev/null 2>&1 || { \
	    echo "make: Rust is needed (1.95 or newer; rust-toolchain.toml names the version), and '$(CARGO)' was not found."; \
	    echo "      See https://rustup.rs, or, under sudo, keep your path: sudo env PATH=\"\$$PATH\" make ..."; \
	    exit 1; }

# Installs only what is missing, and only where it can; without root it says what to install, and the tests that
# need it fail by name.
packages window-packages:
	@want=; \
	for pair in $(PACKAGES) $(if $(filter window-%,$@),$(WINDOW_PACKAGES)); do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v "$${pair#*:}" >/dev/null 2>&1 || want="$$want $${pair%%:*}"; \
	done; \
	if [ -z "$$want" ]; then exit 0; fi; \
	case "$$want" in *" xvfb"*) want="$$want $(WINDOW_LIBRARIES)";; esac; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then \
	    echo "make: these packages are missing (Debian's names):$$want"; \
	    exit 0; \
	fi; \
	echo "apt-get install -y$$want"; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get install -y --no-install-recommends $$want || { apt-get update && apt-get install -y --no-install-recommends $$want; }

root-for-demo root-for-bench root-for-pictures:
	@[ "$$(id -u)" = 0 ] || { \
	    echo "make $(patsubst root-for-%,%,$@): this needs root: it makes loop devices and mounts file systems"; \
	    echo "      (in a directory of its own, and it takes all of it away again)."; \
	    echo "      sudo env PATH=\"\$$PATH\" make $(patsubst root-for-%,%,$@)"; \
	    exit 1; }
