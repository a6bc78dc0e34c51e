# What people type. Each target says what it needs when it cannot go on; nothing here is needed to read the code.
#
#   make demo          try volctl on this machine, with three clients on loop devices (root); KEEP=1 leaves it running
#   make test          format, lints, unit tests, and with root the tests on loop devices
#   make build         the program and the window, optimised: $(RELEASE), and volctl-gui beside it
#   make lint          format and lints alone
#   make pictures      the pictures of docs/gui.md, from a real run (root)
#   make model         every interleaving of small cases, on the machines that ship, and a table of what was found;
#                      ARGS="bakery --trace" chooses
#   make bench         measure locks, hand-overs, polls, refreshes (root); ARGS="handover --rounds 20"
#   make sim           clients on a simulated disk on which everything goes wrong: SEEDS=100000 FROM=0 CLIENTS=8;
#                      SEED=17 tells one run event by event
#   make mutants       each rule of the protocols taken out in its turn: does a run notice? SEEDS=2000 at most for each
#   make fuzz          look for inputs that break what reads foreign bytes (C++ compiler); TARGET_NAME=slot RUNS=10000000, or TIME=60
#   make campaign      break things on real file systems for long (root): ROUNDS=300 FS=ext4 SEED=1; SWEEP=5 instead of
#                      rounds; docs/campaign.md. With -j3 the file systems run side by side
#   make lab           several kernels on one shared disk with reservations (root): LAB=path of the laboratory's program,
#                      ONLY=part of a test's name, READS=100000 of the snapshot readers; tests/lab/README.md
#   make clean

CARGO ?= cargo
# One place for both, so that a set CARGO_TARGET_DIR is honoured.
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release/volctl
KEEP ?=
ARGS ?=
SEED ?=
SEEDS ?=
FROM ?= 0
CLIENTS ?=

# Each input is run with so many like it: with that, reading the counters does not take longer than the targets do.
BATCH ?= 1024
TARGET_NAMES = $(or $(TARGET_NAME),$(notdir $(wildcard fixtures/fuzz/*)))
RUNS ?=
TIME ?= 60
COVERAGE := -Cpasses=sancov-module -Ccodegen-units=1 $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

LAB ?=
ONLY ?=
READS ?=
LAB_TARGET := x86_64-unknown-linux-gnu

FS ?= ext4 xfs btrfs
ROUNDS ?= $(if $(SWEEP),,300)
SWEEP ?=

# Debian packages, and for each a command that shows whether it is there.
PACKAGES := e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs btrfs-progs:mkfs.btrfs util-linux:losetup gcc:cc
# What the tests of the window need besides. Libraries have no command: they come with the first that is missing.
WINDOW_PACKAGES := xvfb:Xvfb xdotool:xdotool imagemagick:import x11-utils:xprop
WINDOW_LIBRARIES := libgl1-mesa-dri libxkbcommon-x11-0

.DEFAULT_GOAL := build
.PHONY: bench build campaign campaign-built cargo clean demo fuzz lab lint model mutants
.PHONY: packages pictures program root-for-bench root-for-campaign root-for-demo root-for-pictures sim test test-plain test-root window-packages

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

# Debug assertions and overflow checks stay on, so that what must never be is noticed in the machines, too.
model: cargo
	$(CARGO) run --profile proof --quiet --package volctl-tests --bin model -- $(ARGS)

bench: root-for-bench packages program
	$(RELEASE) bench $(ARGS)

sim: cargo
	$(CARGO) run --profile proof --quiet --package volctl-tests --bin sim -- \
	    $(if $(SEED),replay $(SEED),run --from $(FROM) --seeds $(or $(SEEDS),1000)) $(if $(CLIENTS),--clients $(CLIENTS)) $(ARGS)

mutants: cargo
	$(CARGO) run --profile proof --quiet --package volctl-tests --bin sim -- mutants --seeds $(or $(SEEDS),2000) $(ARGS)

# The targets are functions of volctl_tests::fuzz; `make test` runs each for a moment, without a C++ compiler. New inputs go to
# $(TARGET)/corpus; the ones worth keeping, small, to fixtures/fuzz.
fuzz: cargo
	COVERAGE="$(COVERAGE)" RUSTC_WRAPPER="$(abspath tests/fuzz/rustc-with-coverage)" CARGO_TARGET_DIR="$(abspath $(TARGET))/fuzz" \
	    $(CARGO) build --release --target $(HOST) --manifest-path tests/fuzz/Cargo.toml
	@for name in $(TARGET_NAMES); do \
	    mkdir -p "$(TARGET)/corpus/$$name"; \
	    echo "fuzzing $$name"; \
	    VOLCTL_FUZZ=$$name VOLCTL_FUZZ_BATCH=$(BATCH) nice -n 10 "$(TARGET)/fuzz/$(HOST)/release/volctl-fuzz" \
	        -max_len=1024 -timeout=120 -rss_limit_mb=1024 -artifact_prefix="$(TARGET)/corpus/failed-$$name-" \
	        $(if $(RUNS),-runs=$$(( $(RUNS) / $(BATCH) + 1 )),-max_total_time=$(TIME)) \
	        "$(TARGET)/corpus/$$name" "fixtures/fuzz/$$name" || exit 1; \
	done

# Static, since the guests have no libraries.
lab: cargo
	@if [ -z "$(LAB)" ]; then \
	    echo "make lab: left out: it needs a laboratory that boots several Linux guests on one shared disk, which is not in this"; \
	    echo "          tree. 'make lab LAB=path/of/its/program' runs tests/lab; tests/lab/README.md says what is asked of it."; \
	    exit 0; \
	fi; \
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --target $(LAB_TARGET) --package volctl || exit 1; \
	files="$(TARGET)/lab"; mkdir -p "$$files"; \
	strip -o "$$files/volctl" "$(TARGET)/$(LAB_TARGET)/debug/volctl" || exit 1; \
	cp tests/lab/volctl-lab.sh "$$files/"; \
	echo "READS=$(or $(READS),20000)" > "$$files/lab-settings.sh"; \
	truncate -s 120M "$$files/btrfs.img" && mkfs.btrfs -q -f "$$files/btrfs.img" > /dev/null 2>&1 && gzip -f "$$files/btrfs.img" || exit 1; \
	bad=0; \
	tests=$$(ls tests/lab/[0-9]*.sh | grep -e '$(ONLY)') || { echo "make lab: no test in tests/lab has '$(ONLY)' in its name"; exit 2; }; \
	for test in $$tests; do \
	    for disk in $$(sed -n 's/^#lab:.* disk=\([^ ]*\).*/\1/p' "$$test" | tr , ' '); do \
	        $(LAB) run "$$test" --files "$$files" --disk "$$disk" $(ARGS) || bad=$$((bad + 1)); \
	    done; \
	done; \
	echo "make lab: $$bad failed"; [ "$$bad" = 0 ]

campaign: root-for-campaign packages $(addprefix campaign-on-,$(FS))

campaign-on-%: campaign-built
	$(TARGET)/proof/campaign --fs $* --seed $(or $(SEED),1) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SWEEP),--sweep $(SWEEP)) $(ARGS)

campaign-built: cargo
	$(CARGO) build --profile proof --package volctl --package volctl-tests --bins

pictures: root-for-pictures window-packages cargo
	$(CARGO) test --workspace --test all -- --ignored loop_the_pictures_of_the_document_are_made

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

root-for-demo root-for-bench root-for-pictures root-for-campaign:
	@[ "$$(id -u)" = 0 ] || { \
	    echo "make $(patsubst root-for-%,%,$@): this needs root: it makes loop devices and mounts file systems"; \
	    echo "      (in a directory of its own, and it takes all of it away again)."; \
	    echo "      sudo env PATH=\"\$$PATH\" make $(patsubst root-for-%,%,$@)"; \
	    exit 1; }
