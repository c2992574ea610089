# weft: a cooperative async runtime for network servers in C.
#
#   make             the libraries and the example service, in build/
#   make serve       starts the example service on 127.0.0.1:8008; Ctrl-C stops it
#   make test        the tests, minutes; T='suite/name*' picks some
#   make test-slow   the tests that take longer (suites named slow_...)
#   make fuzz        the fuzzer tests/fuzz/F.c (F=deferred) for SECONDS (60); INPUT=crash-1f3a: explains what it has left there
#   make coverage    the lines of lib/ that its tests do not run; fails below COVERAGE (95) percent
#   make bench       the benches, tables and build/bench.json; B=name picks one
#   make lint        clang-tidy, gcc's analyzer, headers that stand alone
#   make install     below PREFIX (/usr/local), staged in DESTDIR
#   make clean       removes what was built; make distclean also what was downloaded
#
# ARCH=aarch64 builds with the cross compiler and runs the tests it can under qemu-user.
# CC=gcc|clang  SAN=address|undefined|thread|address,undefined  FIBER=asm|ucontext  RUNNER=criterion|plain  VALGRIND=1
# ACCOUNTING=0 (nothing is measured, for the bench that asks what that costs): each choice builds in a folder of its own,
# build/address, build/clang-ucontext ... CI=true makes warnings errors, V=1 shows the commands. Debian packages that are
# missing are installed first, by tools/dependencies.

VERSION   = 0.1.0
SOVERSION = 0
PREFIX    = /usr/local
libdir    = $(PREFIX)/lib
includedir = $(PREFIX)/include

ARCH   := $(shell uname -m)
CROSS  := $(filter-out $(shell uname -m),$(ARCH))
ifeq ($(origin CC),default)
CC = $(if $(CROSS),$(CROSS)-linux-gnu-gcc,gcc)
endif
FIBER  := $(if $(FIBER),$(FIBER),$(if $(wildcard runtime/fiber/switch_$(ARCH).S),asm,ucontext))
# Criterion does not start under ThreadSanitizer, and Valgrind does not follow it into its tests; nor is it here for others.
RUNNER := $(if $(filter thread,$(SAN))$(VALGRIND)$(CROSS),plain,$(if $(RUNNER),$(RUNNER),criterion))

empty :=
comma := ,
SANS   = $(subst $(comma), ,$(SAN))
CONFIG = $(CROSS) $(filter-out gcc %-linux-gnu-gcc,$(notdir $(CC))) $(SANS) $(filter ucontext,$(FIBER)) \
         $(if $(VALGRIND),valgrind,$(if $(filter thread,$(SAN))$(GCOV)$(CROSS),,$(filter plain,$(RUNNER)))) \
         $(if $(ANALYZE),analyzer) $(if $(FUZZ),fuzz) $(if $(GCOV),coverage)
OUT   := build$(addprefix /,$(subst $(empty) $(empty),-,$(strip $(CONFIG))))$(if $(filter 0,$(ACCOUNTING)),/no-accounting)

# Flags. CFLAGS is the user's; what weft needs stands apart from it.
CFLAGS   = $(if $(SAN),-O1,-O2) -g
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla \
           $(if $(SAN),,$(if $(filter true,$(CI)),-Werror))# gcc's warnings see false paths through sanitizers' checks
ALL_CPPFLAGS = -Iinclude -I. -D_GNU_SOURCE= $(if $(filter ucontext,$(FIBER)),-DWEFT_FIBER_UCONTEXT) $(if $(VALGRIND),-DWEFT_VALGRIND) \
               $(if $(filter 0,$(ACCOUNTING)),-DWEFT_NO_ACCOUNTING) $(CPPFLAGS)
ALL_CFLAGS = -std=gnu11 $(CFLAGS) $(WARNINGS) $(addprefix -fsanitize=,$(SANS)) \
             $(if $(SAN),-fno-omit-frame-pointer)# reports with whole backtraces
# One compilation serves the .a and the .so, so -fPIC must cost nothing: calls inside a library are direct, and
# thread-local variables are read without a call (the libraries are loaded at start-up, where there is room for them).
# Results travel in two registers: stored as two words, and loaded as one wide value at once, they would stall.
LIB_CFLAGS = -fPIC -fvisibility=hidden -fno-semantic-interposition -ftls-model=initial-exec -fno-tree-slp-vectorize \
             $(if $(ANALYZE),-fanalyzer) $(if $(FUZZ),-fsanitize=fuzzer-no-link) \
             $(if $(GCOV),--coverage)
SO_LDFLAGS = -Wl,-z,defs -Wl,-Bsymbolic-functions
TEST_CPPFLAGS = $(if $(filter plain,$(RUNNER)),-DWEFT_PLAIN_RUNNER) \
                $(if $(SAN)$(VALGRIND),-DWEFT_TEST_SANITIZED) $(addprefix -DWEFT_TEST_SAN_,$(SANS) $(if $(VALGRIND),valgrind))
# gcc's runtimes for address and undefined, both shared, quarrel over one log_path and lose reports: the second is linked
# in, and its symbols kept from the first.
ALL_LDFLAGS = $(addprefix -fsanitize=,$(SANS)) $(if $(filter gcc%,$(notdir $(CC))),$(if $(word 2,$(SANS)), \
              -static-libubsan -Wl$(comma)--exclude-libs=libubsan.a)) $(if $(GCOV),--coverage) $(LDFLAGS)
LDLIBS = -ljansson -lev -lm
TESTLIBS = $(if $(filter criterion,$(RUNNER)),-lcriterion)
HTTP_CPPFLAGS = -isystem $(LLHTTP:/share/llhttp=/share/include/llhttp) -DLLHTTP_STRICT_MODE=1

# Another architecture's packages are only unpacked; its emulator looks for them where the linker did.
ifneq ($(CROSS),)
AR := $(CROSS)-linux-gnu-ar
FOREIGN := $(CURDIR)/build/debian-$(CROSS)/usr
ALL_CPPFLAGS += -isystem $(FOREIGN)/include
ALL_LDFLAGS += -L$(FOREIGN)/lib/$(CROSS)-linux-gnu -Wl,-rpath,$(FOREIGN)/lib/$(CROSS)-linux-gnu
endif

# Sources
LLHTTP   := $(or $(wildcard /usr/share/llhttp),build/llhttp/usr/share/llhttp)
SWITCH    = $(if $(filter asm,$(FIBER)),runtime/fiber/switch_$(ARCH).S,runtime/fiber/switch_ucontext.c)
core_SRC := $(wildcard lib/*.c)
weft_SRC := $(filter-out runtime/fiber/switch_%,$(wildcard runtime/loop/*.c runtime/fiber/*.c runtime/observe/*.c)) $(SWITCH)
http_SRC := $(wildcard runtime/http/*.c)
test_SRC := $(wildcard tests/test_*.c tests/integration/test_*.c tests/model/*.c) \
            $(filter-out $(if $(filter plain,$(RUNNER)),%/criterion_runner.c,%/plain_runner.c),$(wildcard tests/support/*.c))
prog_SRC := $(wildcard docs/examples/*/*.c tests/integration/serve_*.c tests/fuzz/*.c bench/*/*.c bench/*/*.cc) tests/planted/planted.c

obj = $(patsubst %,$(OUT)/obj/%.o,$(basename $1))
core_OBJ = $(call obj,$(core_SRC))
weft_OBJ = $(call obj,$(weft_SRC))
http_OBJ = $(call obj,$(http_SRC)) $(addprefix $(OUT)/obj/llhttp/,api.o http.o llhttp.o)
test_OBJ = $(call obj,$(test_SRC))
OBJ = $(core_OBJ) $(weft_OBJ) $(http_OBJ) $(test_OBJ) $(call obj,$(prog_SRC))

STATIC   = $(addprefix $(OUT)/lib/libweft,-http.a .a -core.a)
SHARED   = $(if $(SAN),,$(addprefix $(OUT)/lib/libweft,-http.so .so -core.so))
EXAMPLES = $(addprefix $(OUT)/,$(notdir $(patsubst %/,%,$(wildcard docs/examples/*/))))
SERVED   = $(patsubst tests/integration/%.c,$(OUT)/%,$(wildcard tests/integration/serve_*.c))
FUZZERS  = $(patsubst tests/fuzz/%.c,$(OUT)/fuzz-%,$(wildcard tests/fuzz/*.c))
# The limit of fibers is written for one processor. Go is needed for `make bench` alone.
BENCHES  = $(addprefix $(OUT)/,$(basename $(filter-out %_object.c $(if $(filter-out x86_64,$(ARCH)),bench/fiber/limit.c), \
             $(wildcard bench/*/*.c bench/*/*.cc))))
GO_BENCHES = $(patsubst %.go,$(OUT)/%,$(wildcard bench/$(or $(B),*)/*.go))

# Use every core, unless the caller chose; without built-in rules make looks at fewer files.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
MAKEFLAGS += -r --no-print-directory
SHELL = /bin/bash
.SHELLFLAGS = -o pipefail -c
Q = $(if $(V),,@)
say = $(if $(V),,@echo "  $1")

all: arrows $(STATIC) $(SHARED) $(EXAMPLES)

# In the foreground of a terminal (its process group is mine, see proc(5)) the service becomes a job of its own there:
# Ctrl-C then reaches the service alone, and make ends as the service did.
serve: all
	@read -ra stat </proc/$$$$/stat; if [ $${stat[4]} = $${stat[7]} ]; then set -m; $(OUT)/rooms; else exec $(OUT)/rooms; fi

test test-slow: all $(OUT)/weft-tests $(OUT)/planted $(SERVED) $(if $(SAN),,$(OUT)/installed)
	@SAN='$(SAN)' VALGRIND='$(VALGRIND)' CROSS='$(CROSS)' tests/support/run $(OUT) weft-tests $(if $(V),--verbose) \
	    --filter '$(or $(T),$(if $(filter test,$@),!(slow_*)/*,slow_*/*))'

# What it finds grows build/corpus/F; an input that fails is left beside the fuzzer. setarch: see tests/support/run.
F = deferred
fuzz:
	@$(MAKE) CC=clang SAN=address,undefined FUZZ=1 GCOV= VALGRIND= RUNNER= ANALYZE= fuzz-$(F)
$(notdir $(FUZZERS)): fuzz-%: $(OUT)/fuzz-%
	@mkdir -p build/corpus/$*; export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 $(if $(INPUT),WEFT_FUZZ_EXPLAIN=1); \
	    $$(setarch -R true 2>/dev/null && echo setarch -R) $< $(or $(INPUT),-max_total_time=$(or $(SECONDS),60) -max_len=512 \
	        -verbosity=0 -print_final_stats=1 -artifact_prefix=$(OUT)/ build/corpus/$*)

coverage: dependencies
	@$(MAKE) CC=gcc GCOV=1 SAN= FUZZ= VALGRIND= RUNNER=plain ANALYZE= CFLAGS=-g covered
covered: $(OUT)/weft-tests
	@tests/support/coverage $(OUT) $(or $(COVERAGE),95)

benches: $(BENCHES)
bench: all benches $(GO_BENCHES) $(if $(filter context,$(or $(B),context)),unaccounted)
	@for run in bench/$(or $(B),*)/run; do WEFT_BUILD_DIR=$(OUT) $$run || exit; done

unaccounted:
	@$(MAKE) ACCOUNTING=0 $(OUT)/no-accounting/bench/http/weft

# lib/ keeps off the loop and off descriptors, headers keep libev to themselves.
arrows:
	@! grep -nE '#include *(<(ev|unistd|fcntl|poll|sys/(socket|epoll|eventfd))\.h>|"runtime/)|(^|[^[:alnum:]_>.])(read|write|close|socket)\(' lib/*.[ch] \
	    || { echo 'lib/ must not know the loop or descriptors'; false; }
	@! grep -n '#include *<ev\.h>' include/weft/*.h || { echo 'public headers must not include ev.h'; false; }

# Everything here fails on the first finding; .clang-tidy says what is looked for.
lint: dependencies
	@$(MAKE) ANALYZE=1 CI=true CC=gcc SAN= VALGRIND= RUNNER= analyze
	@printf '%s\n' $(wildcard lib/*.c runtime/*/*.c docs/examples/*/*.c) | xargs -P$(shell nproc) -n1 sh -c \
	    'clang-tidy --quiet "$$@" -- -std=gnu11 $(ALL_CPPFLAGS) $(HTTP_CPPFLAGS) 2>&1' sh | sed '/warnings\? .*generated\.$$/d'
	@for header in include/weft/*.h; do \
	    gcc -std=c11 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only $$header && \
	    g++ -std=c++11 -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c++ $$header || exit; done
analyze: $(STATIC)

# Compiling. Objects wait for the packages, and are made again when a flag changes.
$(OUT)/obj/%.o: %.c $(OUT)/flags | dependencies
	$(call say,CC $<)
	@mkdir -p $(@D)
	$Q$(CC) $(ALL_CPPFLAGS) $(EXTRA) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(OUT)/obj/%.o: %.S $(OUT)/flags | dependencies
	$(call say,AS $<)
	@mkdir -p $(@D)
	$Q$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
# Peers of benches that are in C++ or Go. Go finds all it needs beside its compiler, and nothing is fetched.
$(OUT)/obj/bench/%.o: bench/%.cc $(OUT)/flags | dependencies
	$(call say,CXX $<)
	@mkdir -p $(@D)
	$Qg++ -I. -std=gnu++20 $(CFLAGS) $(filter-out %-prototypes,$(WARNINGS)) -MMD -MP -c -o $@ $<
$(OUT)/bench/%: bench/%.go | dependencies
	$(call say,GO $<)
	@mkdir -p $(@D)
	$QGOCACHE=$(CURDIR)/build/go GOPATH=$(CURDIR)/build/go/path GOPROXY=off GOFLAGS=-mod=mod go build -o $@ $<
# llhttp is not ours to warn about or to analyze.
$(OUT)/obj/llhttp/%.o: $(LLHTTP)/%.c $(OUT)/flags | dependencies
	$(call say,CC $(<F))
	@mkdir -p $(@D)
	$Q$(CC) $(HTTP_CPPFLAGS) -std=gnu11 $(CFLAGS) $(addprefix -fsanitize=,$(SANS)) $(filter-out -fanalyzer,$(LIB_CFLAGS)) -w -c -o $@ $<
$(addprefix $(LLHTTP)/,api.c http.c llhttp.c): | dependencies ;

# Lines of each room are its own logger's, weft.http of runtime/http/.
ROOM = -DWEFT_LOG_LOGGER=weft__logger_$(notdir $(<D))
$(core_OBJ) $(weft_OBJ): private EXTRA = $(LIB_CFLAGS) $(ROOM)
$(http_OBJ): private EXTRA = $(LIB_CFLAGS) $(ROOM) $(HTTP_CPPFLAGS)
$(test_OBJ) $(OUT)/obj/tests/planted/planted.o: private EXTRA = $(TEST_CPPFLAGS)
$(OUT)/obj/bench/%_object.o: private EXTRA = $(LIB_CFLAGS)

# Written only when their text changes: other flags compile everything again, other sources link again.
$(OUT)/flags: stamp = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LIB_CFLAGS) $(HTTP_CPPFLAGS) $(TEST_CPPFLAGS) $(ALL_LDFLAGS) $(SO_LDFLAGS)
$(OUT)/sources: stamp = $(OBJ)
$(OUT)/flags $(OUT)/sources: FORCE
	@mkdir -p $(@D); echo '$(stamp)' | cmp -s - $@ || echo '$(stamp)' >$@

# The libraries. Each shared one links those below it, and must resolve every symbol.
$(OUT)/lib/libweft-core.a $(OUT)/lib/libweft-core.so: $(core_OBJ)
$(OUT)/lib/libweft.a $(OUT)/lib/libweft.so: $(weft_OBJ)
$(OUT)/lib/libweft-http.a $(OUT)/lib/libweft-http.so: $(http_OBJ)
$(OUT)/lib/libweft.so: $(OUT)/lib/libweft-core.so
$(OUT)/lib/libweft-http.so: $(OUT)/lib/libweft.so
$(OUT)/lib/libweft.so: private NEEDS = -lweft-core -lev
$(OUT)/lib/libweft-http.so: private NEEDS = -lweft -lweft-core -ljansson
$(STATIC): $(OUT)/sources
	@mkdir -p $(@D); rm -f $@
	$Q$(AR) rcs $@ $(filter %.o,$^)
$(SHARED): $(OUT)/sources
	@mkdir -p $(@D)
	$Q$(CC) -shared -Wl,-soname,$(@F).$(SOVERSION) $(SO_LDFLAGS) $(ALL_LDFLAGS) -o $@.$(VERSION) $(filter %.o,$^) -L$(@D) $(NEEDS) $(if $(filter ucontext,$(FIBER)),-lm)
	@ln -sf $(@F).$(VERSION) $@.$(SOVERSION); ln -sf $(@F).$(VERSION) $@

# Programs link the static libraries: they run where they lie, and tests see what is private. Benches link the shared ones,
# which users get, found from where the program lies; with a sanitizer there are none.
.SECONDEXPANSION:
LIBS = $(STATIC)
LINK = @mkdir -p $(@D); $(if $(V),set -x;) $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS) $(LDLIBS)
$(OUT)/weft-tests: $(test_OBJ) $(STATIC) $(OUT)/sources
	$(LINK) $(TESTLIBS)
$(OUT)/planted: $(OUT)/obj/tests/planted/planted.o $(filter %/support/test.o %_runner.o,$(test_OBJ)) $(STATIC)
	$(LINK) $(TESTLIBS)
$(FUZZERS): private TESTLIBS = -fsanitize=fuzzer
$(FUZZERS): $(OUT)/fuzz-%: $(OUT)/obj/tests/fuzz/%.o $(filter $(OUT)/obj/tests/model/%,$(test_OBJ)) $(STATIC)
	$(LINK) $(TESTLIBS)
$(EXAMPLES): $(OUT)/%: $$(call obj,$$(wildcard docs/examples/$$*/*.c)) $(STATIC) $(OUT)/sources
	$(LINK)
$(SERVED): $(OUT)/%: $(OUT)/obj/tests/integration/%.o $(STATIC)
	$(LINK)
$(BENCHES): private LIBS = -Wl,--as-needed -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../../lib' $(filter %_object.so,$^) $(or $(SHARED),$(STATIC))
$(BENCHES): $(OUT)/%: $(OUT)/obj/%.o $(or $(SHARED),$(STATIC))
	$(LINK)
# The bare switch is not for users: its bench sees what is private.
$(OUT)/bench/fiber/weft_switch: $(STATIC)
$(OUT)/bench/fiber/weft_switch: private LIBS = $(STATIC)
$(OUT)/bench/fiber/boost: private LIBS = -lboost_context -lstdc++
# What a bench compares weft's libraries with stands in one of its own.
$(OUT)/bench/deferred/limit: $(OUT)/bench/deferred/limit_object.so
$(OUT)/bench/%_object.so: $(OUT)/obj/bench/%_object.o
	@mkdir -p $(@D)
	$Q$(CC) -shared -Wl,-soname,$(@F) $(SO_LDFLAGS) $(ALL_LDFLAGS) -o $@ $<

install: $(STATIC) $(SHARED)
	install -d $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(includedir)/weft
	install -m 644 include/weft/*.h $(DESTDIR)$(includedir)/weft
	install -m 644 $(STATIC) $(SHARED:=.$(VERSION)) $(DESTDIR)$(libdir)
	for so in $(notdir $(SHARED)); do ln -sf $$so.$(VERSION) $(DESTDIR)$(libdir)/$$so.$(SOVERSION) && \
	    ln -sf $$so.$(SOVERSION) $(DESTDIR)$(libdir)/$$so; done
	for pc in libweft-core libweft libweft-http; do \
	    sed 's|@prefix@|$(PREFIX)|; s|@libdir@|$(libdir)|; s|@includedir@|$(includedir)|; s|@version@|$(VERSION)|' \
	        tools/pkgconfig/$$pc.pc.in >$(DESTDIR)$(libdir)/pkgconfig/$$pc.pc; done
	@[ -n "$(DESTDIR)" ] || ldconfig || echo 'run ldconfig as root, so that programs find the shared libraries'
# What a program outside the tree would find; a test builds one.
$(OUT)/installed: $(STATIC) $(SHARED) $(wildcard include/weft/*.h tools/pkgconfig/*)
	@rm -rf $@; $(MAKE) -s install DESTDIR=$(CURDIR)/$@ PREFIX=/usr/local

dependencies:
	@tools/dependencies build $(if $(filter clang%,$(CC)),clang) $(if $(CROSS),cross,$(filter test bench benches lint,$(patsubst coverage,test,$(MAKECMDGOALS:test-slow=test))))

clean:
	@mkdir -p build; find build -mindepth 1 -maxdepth 1 ! -name llhttp ! -name 'debian-*' -exec rm -rf {} +
distclean:
	rm -rf build

.PHONY: all serve test test-slow fuzz $(notdir $(FUZZERS)) coverage covered bench benches unaccounted arrows lint analyze install dependencies clean distclean FORCE
.DELETE_ON_ERROR:
-include $(OBJ:.o=.d)
