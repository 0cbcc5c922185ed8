# SPDX-License-Identifier: Apache-2.0
#
# Rooms are found by wildcard: a new .c file in a room, a new test or a new man page needs no line
# here. Each flavour (compiler, sanitizer) has a build folder of its own.
#
#   make V=1 ...                    shows the commands
#   make SAN=address,undefined ...  builds and tests with sanitizers
#   make CC=clang ...               builds and tests with clang

ifeq ($(origin CC),default)
CC := gcc
endif
SAN ?=
PREFIX ?= /usr/local
DESTDIR ?=
PORT ?= 2181
RUN ?= run
SEEDS ?= 600
FIRST ?= 1
TEETH ?= 2000
FUZZ_SECONDS ?= 10
JOBS ?= $(shell nproc)

comma := ,
dash_san := $(subst $(comma),-,$(SAN))
compiler := $(filter-out gcc,$(notdir $(CC)))
ifdef FUZZ
BUILD := build/fuzz
else ifdef PLANTS
BUILD := build/plants
else
BUILD := build/$(or $(subst $() ,-,$(strip $(compiler) $(addprefix san-,$(dash_san)))),release)
endif

# ---- Flags ----

# Headers of others are system headers: their warnings are not ours.
packages = $(subst -I,-isystem ,$(shell pkg-config $(1) 2>/dev/null))
PKG_CFLAGS := $(call packages,--cflags fuse3 libuv libprotobuf-c rocksdb libcrypto jansson)
CPPFLAGS_ALL := -I. -isystem $(BUILD)/gen -D_GNU_SOURCE $(PKG_CFLAGS)
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual \
	-Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wswitch-enum -Wformat=2 \
	-Wimplicit-fallthrough -Wwrite-strings -Wno-format-zero-length
ifdef SAN
# The instrumentation makes gcc see null dereferences that are not there; release is the judge.
HARDENING := -O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all
LINKING := -fsanitize=$(SAN)
else
WARNINGS += -Wnull-dereference -Werror
HARDENING := -O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2
LINKING := -Wl,-z,relro,-z,now
endif
ifdef FUZZ
HARDENING += -fsanitize=fuzzer-no-link
endif
# Bugs to be found by the simulator (common/plant.h): never in what is installed or tested else.
ifdef PLANTS
HARDENING += -DQUORUMFS_PLANTS
endif
C_FLAGS := -std=gnu11 -g -fPIE -pthread $(HARDENING) $(CPPFLAGS_ALL)
LD_FLAGS := -pie -pthread -Wl,--as-needed $(LINKING)

LIBS_common := $(call packages,--libs libprotobuf-c libxxhash)
LIBS_server := $(call packages,--libs libuv rocksdb inih libcrypto jansson libsystemd)
LIBS_fs := $(call packages,--libs libuv jansson libcrypto)
LIBS_fuse := $(call packages,--libs fuse3)

# ---- What there is ----

in_rooms = $(wildcard $(addsuffix /*.c,$(1)))
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

SOURCES_common := $(call in_rooms,common)
SOURCES_server := $(filter-out server/main.c,$(call in_rooms,server server/raft server/tree \
	server/log server/store server/net server/zk))
SOURCES_fsclient := $(call in_rooms,fs/client)
SOURCES_mount := $(filter-out fs/mount/main.c,$(call in_rooms,fs/mount))
SOURCES_ctl := $(filter-out fs/ctl/main.c,$(call in_rooms,fs/ctl))
# The stand-ins take the place of functions of the programs: only for the tests that want them.
SOURCES_standin := tests/lib/mount_fixture.c
SOURCES_testlib := $(filter-out $(SOURCES_standin),$(call in_rooms,tests/lib))
SOURCES_sim := $(filter-out tests/sim/test_% tests/sim/sim_main.c tests/sim/sim_teeth.c,\
	$(call in_rooms,tests/sim tests/model))
# One program each.
SOURCES_tests := $(wildcard tests/unit/test_*.c tests/raft/test_*.c)
SOURCES_simtests := $(wildcard tests/sim/test_*.c)
SOURCES_tools := $(call in_rooms,tests/cluster tests/mount tests/bench)
SOURCES_fuzz := $(wildcard tests/fuzz/fuzz_*.c)

MAINS := $(wildcard server/main.c fs/mount/main.c fs/ctl/main.c tests/sim/sim_main.c)
PROGRAMS := $(if $(filter server/main.c,$(MAINS)),$(BUILD)/bin/quorumd) \
	$(if $(filter fs/mount/main.c,$(MAINS)),$(BUILD)/bin/quorumfs) \
	$(if $(filter fs/ctl/main.c,$(MAINS)),$(BUILD)/bin/quorumctl)
SIM := $(if $(filter tests/sim/sim_main.c,$(MAINS)),$(BUILD)/tests/sim/sim)
TESTS := $(patsubst %.c,$(BUILD)/%,$(SOURCES_tests))
SIMTESTS := $(patsubst %.c,$(BUILD)/%,$(SOURCES_simtests))
TOOLS := $(patsubst %.c,$(BUILD)/%,$(SOURCES_tools))
FUZZERS := $(patsubst %.c,$(BUILD)/%,$(SOURCES_fuzz))

WIRE := $(BUILD)/gen/common/wire.pb-c
LIB_common := $(BUILD)/libcommon.a
LIB_server := $(BUILD)/libserver.a
LIB_fsclient := $(BUILD)/libfsclient.a
LIB_mount := $(BUILD)/libmount.a
LIB_ctl := $(BUILD)/libctl.a
LIB_testlib := $(BUILD)/libtestlib.a
LIB_sim := $(BUILD)/libsim.a
# For tests: everything but the main functions.
LIBS_all := $(LIB_testlib) $(LIB_server) $(LIB_mount) $(LIB_ctl) $(LIB_fsclient) \
	$(LIB_common)

# Scripts find the programs by these.
export QUORUMFS_BIN := $(abspath $(BUILD)/bin)
export QUORUMFS_TESTS := $(abspath $(BUILD)/tests)
export QUORUMFS_SAN := $(SAN)
export BUILD CC PORT RUN SEEDS FIRST

ifdef V
say =
else
say = @printf '  %-5s %s\n' '$(1)' '$(2)';
MAKEFLAGS += --no-print-directory
endif
# A job count given by the user stays; else we use all processors.
parallel = $(MAKE) $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.PHONY: all everything unit-programs objects fuzzers deps up down check unit sim sim-teeth \
	mount-tests cluster-tests soak format tidy analyze bench fuzz install help clean FORCE

all: $(PROGRAMS) ## build quorumd, quorumfs and quorumctl

everything: $(PROGRAMS) $(TESTS) $(SIMTESTS) $(TOOLS) $(SIM)

unit-programs: $(TESTS)

deps:
	@packaging/deps.sh

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24
	@echo
	@sed -n 's/^#   make/  make/p' Makefile

# ---- Run ----

up: deps ## start three replicas and two mounts (PORT=2181 RUN=run)
	@$(parallel) all
	@packaging/demo/up.sh

down: ## end what `make up` started
	@packaging/demo/down.sh

# ---- Test ----

# run_tests(what to build, kinds): deps, build, then all tests of these kinds (none named: all).
define run_tests
	@packaging/deps.sh
	@$(parallel) $(1) || { echo "0 passed, 1 failed"; exit 1; }
	@tests/run.sh $(2)
endef

check: ## build and run all tests; the last line is `N passed, N failed`
	$(call run_tests,everything)

unit: ## run the unit tests and the tests of the Raft core
	$(call run_tests,unit-programs,unit raft)

cluster-tests: ## run the tests that start replicas
	$(call run_tests,everything,cluster)

soak: ## all kinds of faults at random over real replicas (SECONDS=300, SEED=n)
	@packaging/deps.sh
	@$(parallel) everything
	@tests/cluster/soak.sh $(or $(SECONDS),300) $(SEED)

mount-tests: ## run the tests that mount the tree
	$(call run_tests,everything,mount)

sim: ## run the simulator (SEEDS=200 FIRST=1, or one SEED=n)
	@packaging/deps.sh
	@$(parallel) $(BUILD)/tests/sim/sim
ifdef SEED
	$(BUILD)/tests/sim/sim --seed $(SEED)
else
	$(BUILD)/tests/sim/sim $(SEEDS) $(FIRST)
endif

sim-teeth: ## plant bugs one after the other: the simulator must find each within TEETH=2000 seeds
	@packaging/deps.sh
	@$(parallel) PLANTS=1 build/plants/tests/sim/sim_teeth
	build/plants/tests/sim/sim_teeth $(TEETH) $(FIRST)

tidy: ## check format, layers, sizes, symbols, banned functions, scripts, lint
	@packaging/deps.sh
	@$(parallel) objects
	@tests/tidy.sh

# The clang-tidy of tests/tidy.sh uses these.
export TIDY_FLAGS := -std=gnu11 $(CPPFLAGS_ALL)

objects: $(call objects,$(SOURCES_common) $(SOURCES_server)) $(WIRE).h

analyze: ## gcc's analyzer over the programs; prints warnings
	@packaging/deps.sh
	@$(MAKE) CC=gcc SAN= $(WIRE).h
	@for file in $(SOURCES_common) $(SOURCES_server) $(SOURCES_fsclient) $(SOURCES_mount) \
		$(SOURCES_ctl) $(filter-out tests/%,$(MAINS)); do echo "  CHECK $$file"; \
		gcc $(C_FLAGS) -fanalyzer -c -o /dev/null $$file || exit 1; done

fuzz: ## run each fuzzer for FUZZ_SECONDS=10
	@packaging/deps.sh
	@$(MAKE) CC=clang SAN=address,undefined FUZZ=1 FUZZ_SECONDS=$(FUZZ_SECONDS) fuzzers

fuzzers: $(FUZZERS)
	@test -n "$(FUZZERS)" || { echo "no tests/fuzz/fuzz_*.c" >&2; exit 1; }
	@for fuzzer in $(FUZZERS); do name=$${fuzzer##*/fuzz_}; mkdir -p $(BUILD)/corpus/$$name; \
		seeds=tests/fuzz/corpus/$$name; test -d $$seeds || seeds=; \
		echo "== fuzz_$$name"; $$fuzzer -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
		-artifact_prefix=$(BUILD)/$$name- $(BUILD)/corpus/$$name $$seeds || exit 1; done

bench: ## measure; figures go to stdout
	@packaging/deps.sh
	@$(parallel) everything
	@tests/bench/run.sh

format: ## clang-format all our C
	clang-format -i $(shell find common fs server tests -name '*.[ch]')

# ---- Install ----

man_pages = $(wildcard packaging/man/*.$(1))

install: all ## install to DESTDIR, PREFIX=/usr/local
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/sbin
	install -m 755 $(BUILD)/bin/quorumd $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(BUILD)/bin/quorumfs $(BUILD)/bin/quorumctl $(DESTDIR)$(PREFIX)/bin/
	ln -sf $(PREFIX)/bin/quorumfs $(DESTDIR)/sbin/mount.quorumfs
	$(foreach section,1 5 8,$(if $(call man_pages,$(section)),\
		install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man$(section) \
		$(call man_pages,$(section));))
	$(if $(wildcard packaging/systemd/*),install -D -m 644 \
		-t $(DESTDIR)$(PREFIX)/lib/systemd/system $(wildcard packaging/systemd/*))
	$(if $(wildcard packaging/completion/*),install -D -m 644 \
		-t $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(wildcard packaging/completion/*))

clean: ## remove all build folders
	rm -rf build

# ---- How things are made ----

# Written only when the content changes: what depends on them is made anew when flags change, and
# archives also when a source file disappears.
$(BUILD)/flags: CONTENT = $(CC) $(C_FLAGS) $(WARNINGS) $(LD_FLAGS)
$(BUILD)/sources: CONTENT = $(SOURCES_common) $(SOURCES_server) $(SOURCES_fsclient) \
	$(SOURCES_mount) $(SOURCES_ctl) $(SOURCES_testlib) $(SOURCES_sim)
$(BUILD)/flags $(BUILD)/sources: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CONTENT)' | cmp -s - $@ || printf '%s\n' '$(CONTENT)' > $@

$(WIRE).c $(WIRE).h &: common/wire.proto
	@mkdir -p $(BUILD)/gen
	$(call say,GEN,$<) protoc-c --c_out=$(BUILD)/gen $<

# -MD, not -MMD: the generated header is a system header and must be among the dependencies.
$(BUILD)/obj/%.o: %.c $(BUILD)/flags | $(WIRE).h
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(C_FLAGS) $(WARNINGS) -MD -MP -c -o $@ $<

$(WIRE).o: $(WIRE).c $(WIRE).h $(BUILD)/flags
	$(call say,CC,$<) $(CC) $(C_FLAGS) -w -c -o $@ $<

$(LIB_common): $(call objects,$(SOURCES_common)) $(WIRE).o
$(LIB_server): $(call objects,$(SOURCES_server))
$(LIB_fsclient): $(call objects,$(SOURCES_fsclient))
$(LIB_mount): $(call objects,$(SOURCES_mount))
$(LIB_ctl): $(call objects,$(SOURCES_ctl))
$(LIB_testlib): $(call objects,$(SOURCES_testlib))
$(LIB_sim): $(call objects,$(SOURCES_sim))
$(BUILD)/lib%.a: $(BUILD)/sources
	$(call say,AR,$@) rm -f $@ && ar rcs $@ $(filter %.o,$^)

# link(libraries): objects and archives come from the prerequisites. A test may ask for more in
# its source by a comment line ` * link: -Wl,--wrap=malloc`.
more_flags = $$(sed -n 's/^ \* link: //p' $(patsubst $(BUILD)/%,%.c,$@) 2>/dev/null)
define link
	@mkdir -p $(@D)
	$(call say,LD,$@) $(CC) $(LD_FLAGS) $(2) -o $@ $(filter %.o,$^) \
		-Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(1)
endef

$(BUILD)/bin/quorumd: $(BUILD)/obj/server/main.o $(LIB_server) $(LIB_common)
	$(call link,$(LIBS_server) $(LIBS_common))

$(BUILD)/bin/quorumfs: $(BUILD)/obj/fs/mount/main.o $(LIB_mount) $(LIB_fsclient) $(LIB_common)
	$(call link,$(LIBS_fuse) $(LIBS_fs) $(LIBS_common))

$(BUILD)/bin/quorumctl: $(BUILD)/obj/fs/ctl/main.o $(LIB_ctl) $(LIB_fsclient) $(LIB_common)
	$(call link,$(LIBS_fs) $(LIBS_common))

LIBS_test := -lcmocka $(LIBS_server) $(LIBS_fuse) $(LIBS_common) -lm

$(BUILD)/tests/sim/sim: $(BUILD)/obj/tests/sim/sim_main.o $(LIB_sim) $(LIBS_all)
	$(call link,$(LIBS_test))

# Less than LIBS_all: it has all objects made once more.
$(BUILD)/tests/sim/sim_teeth: $(BUILD)/obj/tests/sim/sim_teeth.o $(LIB_sim) \
	$(call objects,tests/lib/sim_disk.c tests/lib/kv_memory.c) \
	$(LIB_server) $(LIB_common)
	$(call link,$(LIBS_server) $(LIBS_common))

$(SIMTESTS): $(LIB_sim)
$(filter $(BUILD)/tests/unit/test_mount_%,$(TESTS)): $(call objects,$(SOURCES_standin))
$(TESTS) $(SIMTESTS) $(TOOLS): $(BUILD)/%: $(BUILD)/obj/%.o $(LIBS_all)
	$(call link,$(LIBS_test),$(more_flags))

$(FUZZERS): $(BUILD)/%: $(BUILD)/obj/%.o $(LIBS_all)
	$(call link,$(LIBS_test),-fsanitize=fuzzer)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
