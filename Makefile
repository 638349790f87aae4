# libaiinfra: the build, and the front door to everything else.
#
#   make          the library, the aiinfra program and the examples, into build/
#   make demo     see it work          make test     run every test
#
# Those last two also work as the very first command on a bare Debian: they install what is missing, then
# call make again, so that pkg-config is asked only once it can answer. `make help` lists the other verbs.
#
# Nothing is listed by hand. A module is a folder of lib/, src/ or kernels/, an example is a file of examples/,
# a test is a file of tests/: adding one is adding a file. Instruction sets go by file name: *_avx2.c is compiled
# for AVX2, *_avx512.c for AVX-512, *_avxvnni.c for AVX-VNNI, *_bf16.c and *_amx.c for AVX512-BF16 and AMX besides
# AVX-512, and only on x86-64.
#
# Variables worth knowing:
#   BUILD=dir      where everything goes; separate trees may be built side by side
#   CC, OPT        gcc or clang; optimisation flags
#   EXTRA=flags    added to every compilation and link (sanitizers)
#   DEBUG=1        keeps assert(); release builds define NDEBUG
#   WITH_SERVER=0  leaves out src/server and libmicrohttpd
#   MODULES=...    only these modules, such as "lib/base src/text"
#   T=regex        test only what matches, such as T=unit.text
#   V=1            print whole commands

SHELL := /bin/bash
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

VERSION := $(shell sed -n 's/^.define AIINFRA_VERSION_STRING "\(.*\)"/\1/p' include/aiinfra/types.h 2>/dev/null)
SONAME  := libaiinfra.so.$(firstword $(subst ., ,$(VERSION)))
REAL    := libaiinfra.so.$(VERSION)

# ---- settings ----------------------------------------------------------------------------------------------
BUILD       ?= build
PREFIX      ?= /usr/local
DESTDIR     ?=
OPT         ?= -O3
DEBUG       ?= 0
EXTRA       ?=
WARN        ?= -Wall -Wextra -Wconversion -Wshadow -Wvla -Werror
WITH_SERVER ?= 1
FUZZ_SECONDS ?= 20
T           ?=
JOBS        ?= $(shell nproc 2>/dev/null || echo 2)
MODULES     ?= $(patsubst %/,%,$(filter-out src/packaging/,$(wildcard lib/*/ src/*/))) kernels
ifeq ($(origin CC),default)
CC  := gcc
CXX := g++
endif
ifneq ($(findstring clang,$(CC)),)
CXX := $(subst clang,clang++,$(CC))
endif
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null || uname -m)))
Q := $(if $(V),,@)
say = $(if $(V),@:,@printf '  %-5s %s\n')

# ---- system libraries: asked at recipe time, once ------------------------------------------------------------
PKGS := libuv sqlite3 jansson libutf8proc libpcre2-8
ifneq ($(WITH_SERVER),0)
PKGS += libmicrohttpd
endif
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PKGS)))$(PKG_LIBS)
LIBS       = $(PKG_LIBS) -lm -ldl -pthread

# ---- sources -------------------------------------------------------------------------------------------------
SRCS := $(sort $(wildcard $(MODULES:%=%/*.c)))
ifneq ($(filter kernels,$(MODULES)),)
SRCS += $(sort $(wildcard kernels/ref/*.c) $(if $(filter x86_64,$(MACHINE)),$(wildcard kernels/x86/*.c)))
endif
ifeq ($(WITH_SERVER),0)
SRCS := $(filter-out src/server/%,$(SRCS)) src/server/absent_api.c
else
SRCS := $(filter-out src/server/absent_api.c,$(SRCS))
endif
HEADERS := $(wildcard include/*.h include/aiinfra/*.h)
OBJS    := $(SRCS:%.c=$(BUILD)/obj/%.o)

CLI_OBJS := $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard examples/aiinfra/*.c))
CLI      := $(if $(CLI_OBJS),$(BUILD)/aiinfra)
EX_SRCS  := $(wildcard examples/*.c examples/*.cc examples/nano/*.c)
ifeq ($(WITH_SERVER),0)
EX_SRCS  := $(if $(EX_SRCS),$(shell grep -L 'aiinfra/server.h' $(EX_SRCS)))
endif
EXAMPLES := $(addprefix $(BUILD)/examples/,$(basename $(notdir $(EX_SRCS))))

# ---- flags ---------------------------------------------------------------------------------------------------
CSTD   := -std=c11 -D_GNU_SOURCE
CFLAGS ?= $(OPT) -g
COMMON  = $(CFLAGS) $(WARN) -fPIC -fvisibility=hidden -ffp-contract=off -pthread -MMD -MP \
          $(if $(filter 0,$(DEBUG)),-DNDEBUG) -DAIINFRA_WITH_SERVER=$(WITH_SERVER)
ISA_AVX2    := -mavx2 -mfma -mf16c -mbmi2
ISA_AVX512  := $(ISA_AVX2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
ISA_AVXVNNI := $(ISA_AVX2) -mavxvnni
ISA_BF16    := $(ISA_AVX512) -mavx512bf16
ISA_AMX     := $(ISA_AVX512) -mamx-tile -mamx-int8
isa = $(if $(filter %_avxvnni.c,$1),$(ISA_AVXVNNI))$(if $(filter %_avx512.c,$1),$(ISA_AVX512))$(if \
      $(filter %_avx2.c,$1),$(ISA_AVX2))$(if $(filter %_bf16.c,$1),$(ISA_BF16))$(if $(filter %_amx.c,$1),$(ISA_AMX))
MAP  := src/aiinfra.map
DEFS  = $(if $(findstring -fsanitize,$(EXTRA)),,-Wl,-z,defs)

# ---- plug-ins: what a machine has the tools for ------------------------------------------------------------------
NVCC     ?= $(firstword $(wildcard $(shell command -v nvcc 2>/dev/null) /usr/local/cuda/bin/nvcc))
CUDA_LIB := $(if $(NVCC),$(BUILD)/libaiinfra-cuda.so)
MPICC    ?= $(shell command -v mpicc 2>/dev/null)
MPI_LIB  := $(if $(MPICC),$(BUILD)/libaiinfra-mpi.so)
PQ       ?= $(shell pkg-config --exists libpq 2>/dev/null && echo libpq)
PQ_LIB   := $(if $(PQ),$(BUILD)/libaiinfra-postgres.so)
NO_PLUGINS := NVCC= MPICC= PQ= # for builds whose tests use none

# ---- build ---------------------------------------------------------------------------------------------------
.PHONY: all libs static shared examples FORCE
all: libs $(CLI) examples $(CUDA_LIB) $(MPI_LIB) $(PQ_LIB)
libs: static shared
static: $(BUILD)/libaiinfra.a
shared: $(BUILD)/libaiinfra.so
examples: $(EXAMPLES)

# Rewritten, and everything rebuilt, only when the flags change.
$(BUILD)/obj/.flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CSTD) $(COMMON) $(PKG_CFLAGS) $(EXTRA)' | cmp -s - $@ || \
	  echo '$(CC) $(CSTD) $(COMMON) $(PKG_CFLAGS) $(EXTRA)' > $@

$(OBJS): $(BUILD)/obj/%.o: %.c $(BUILD)/obj/.flags
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) $(COMMON) -Iinclude -I. $(PKG_CFLAGS) $(call isa,$<) $(EXTRA) -c $< -o $@

$(BUILD)/libaiinfra.a: $(OBJS)
	$(say) AR $@
	$(Q)rm -f $@ && ar rcs $@ $(OBJS)

$(BUILD)/$(REAL): $(OBJS) $(MAP)
	$(say) LD $@
	@python3 tests/abi/map.py --warn
	$(Q)$(CC) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(MAP) $(DEFS) \
	  -Wl,--as-needed $(EXTRA) $(OBJS) $(LIBS) -o $@

$(BUILD)/libaiinfra.so: $(BUILD)/$(REAL)
	$(Q)ln -sf $(REAL) $(BUILD)/$(SONAME) && ln -sf $(SONAME) $@

# Examples see what a user sees: the public headers, the shared library, and libuv or jansson if they want to.
EX_FLAGS = $(COMMON) -Iinclude $(PKG_CFLAGS) $(EXTRA)
EX_LIBS  = -L$(BUILD) -laiinfra -Wl,--as-needed $(shell pkg-config --libs libuv jansson) -lm -pthread

$(CLI_OBJS): $(BUILD)/obj/%.o: %.c $(BUILD)/obj/.flags
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) $(EX_FLAGS) -c $< -o $@

$(BUILD)/aiinfra: $(CLI_OBJS) $(BUILD)/libaiinfra.so
	$(say) LD $@
	$(Q)$(CC) $(EXTRA) $(CLI_OBJS) -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib' $(EX_LIBS) -o $@

vpath %.c  examples examples/nano
vpath %.cc examples
$(filter $(addprefix $(BUILD)/examples/,$(basename $(notdir $(filter %.c,$(EX_SRCS))))),$(EXAMPLES)): \
$(BUILD)/examples/%: %.c $(BUILD)/libaiinfra.so
	$(say) EX $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) $(EX_FLAGS) -MF $@.d $< -Wl,-rpath,'$$ORIGIN/..' $(EX_LIBS) -o $@
$(addprefix $(BUILD)/examples/,$(basename $(notdir $(filter %.cc,$(EX_SRCS))))): \
$(BUILD)/examples/%: %.cc $(BUILD)/libaiinfra.so
	$(say) EX $<
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++11 $(EX_FLAGS) -MF $@.d $< -Wl,-rpath,'$$ORIGIN/..' $(EX_LIBS) -o $@

-include $(OBJS:.o=.d) $(CLI_OBJS:.o=.d) $(EXAMPLES:=.d)

# ---- CUDA: a plug-in, where nvcc is ------------------------------------------------------------------------------
# Kernels are C++ for nvcc; the host's side is C. What it needs of the library is linked into it and stays hidden.
.PHONY: cuda
CUDA_ARCH ?= 80 89 90a
CUDA_HOME  = $(abspath $(dir $(realpath $(NVCC)))/..)
CU_SRCS   := $(wildcard kernels/cuda/*.cu)
CU_OBJS   := $(CU_SRCS:%.cu=$(BUILD)/obj/%.cu.o)
CUDA_SRCS := $(wildcard src/backend/cuda/*.c)
CUDA_OBJS := $(CUDA_SRCS:%.c=$(BUILD)/obj/%.o)
# --fmad=false: nothing is contracted, so that results have the CPU's bits.
NVCCFLAGS  = -std=c++17 -O3 --fmad=false --compiler-options -fPIC,-fvisibility=hidden -Werror all-warnings -MMD -MP \
             $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$a,code=sm_$a) -gencode arch=compute_80,code=compute_80
cuda: $(CUDA_LIB)
	$(Q)$(if $(CUDA_LIB),:,echo 'no nvcc: install the CUDA Toolkit, or give NVCC=/path/to/nvcc'; exit 1)

$(CU_OBJS): $(BUILD)/obj/%.cu.o: %.cu $(BUILD)/obj/.flags
	$(say) NVCC $<
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCCFLAGS) -Iinclude -I. -c $< -o $@

$(CUDA_OBJS): $(BUILD)/obj/%.o: %.c $(BUILD)/obj/.flags
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) $(COMMON) -Iinclude -I. -isystem $(CUDA_HOME)/include $(EXTRA) -c $< -o $@

$(BUILD)/libaiinfra-cuda.so: $(CU_OBJS) $(CUDA_OBJS) $(BUILD)/libaiinfra.a
	$(say) LD $@
	$(Q)$(CXX) -shared $(EXTRA) $(CU_OBJS) $(CUDA_OBJS) -Wl,--exclude-libs,ALL $(BUILD)/libaiinfra.a \
	  -L$(CUDA_HOME)/lib64 -lcudart_static -static-libstdc++ -static-libgcc -lm -lrt -ldl -pthread -o $@

-include $(CU_OBJS:.o=.d) $(CUDA_OBJS:.o=.d)

# ---- MPI: a plug-in, where mpicc is -------------------------------------------------------------------------------
.PHONY: mpi
mpi: $(MPI_LIB)
	$(Q)$(if $(MPI_LIB),:,echo 'no mpicc: install libopenmpi-dev, or give MPICC=/path/to/mpicc'; exit 1)
$(BUILD)/libaiinfra-mpi.so: src/backend/mpi/mpi.c src/backend/plugin.h src/backend/backend.h $(BUILD)/libaiinfra.a
	$(say) LD $@
	$(Q)OMPI_CC='$(CC)' $(MPICC) $(CSTD) $(filter-out -MMD -MP,$(COMMON)) -Wno-conversion -Iinclude -I. $(EXTRA) -shared $< \
	  -Wl,--exclude-libs,ALL $(BUILD)/libaiinfra.a -o $@

# ---- PostgreSQL: a plug-in, where libpq is -------------------------------------------------------------------------
.PHONY: postgres
PQ_SRCS := $(wildcard src/db/postgres/*.c)
PQ_OBJS := $(PQ_SRCS:%.c=$(BUILD)/obj/%.o)
postgres: $(PQ_LIB)
	$(Q)$(if $(PQ_LIB),:,echo 'no libpq: install libpq-dev'; exit 1)
$(PQ_OBJS): $(BUILD)/obj/%.o: %.c $(BUILD)/obj/.flags
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) $(COMMON) -Iinclude -I. $(PKG_CFLAGS) $$(pkg-config --cflags libpq) $(EXTRA) -c $< -o $@
$(BUILD)/libaiinfra-postgres.so: $(PQ_OBJS) $(BUILD)/libaiinfra.a
	$(say) LD $@
	$(Q)$(CC) -shared $(EXTRA) $(PQ_OBJS) -Wl,--exclude-libs,ALL $(BUILD)/libaiinfra.a -Wl,--as-needed \
	  $$(pkg-config --libs libpq) $(LIBS) -o $@

-include $(PQ_OBJS:.o=.d)

# What a GPU can do at most, beside which tests/gpu/run.sh puts what was measured.
ROOF := $(if $(NVCC),$(BUILD)/gpu.roof)
$(BUILD)/gpu.roof: tests/gpu/roof.cu kernels/cuda/device.h kernels/cuda/cuda.h
	$(say) NVCC $<
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(filter-out -MMD -MP,$(NVCCFLAGS)) -Xcompiler -static-libstdc++,-static-libgcc,-s -Iinclude -I. $< -ldl -o $@

# Registers and spills of every kernel, as ptxas tells them.
.PHONY: cuda-report gpu-bundle
cuda-report:
	@mkdir -p $(BUILD)/obj
	$(Q)for f in $(CU_SRCS); do $(NVCC) $(filter-out -MMD -MP -gencode arch=%,$(NVCCFLAGS)) -arch=sm_90a --resource-usage \
	  -Iinclude -I. -cubin $$f -o $(BUILD)/obj/report.cubin 2>&1 | tests/gpu/report.sh $$f $(BUILD)/obj/report.cubin; done

# All that tests/gpu/run.sh needs on a machine with a GPU and nothing else.
gpu-bundle: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all $(ROOF)
	$(Q)$(MAKE) --no-print-directory run-tests T='^gpu'
	$(Q)tests/gpu/bundle.sh $(BUILD)

# The same lines for the CPU, for tests: tests/support/cuda_on_cpu.
FAKE_CUDA := tests/support/cuda_on_cpu
FAKE_CUDA_LIB := $(if $(filter x86_64,$(MACHINE)),$(BUILD)/libaiinfra-cuda-on-cpu.so $(BUILD)/nccl-on-cpu/libnccl.so.2 \
  $(BUILD)/roof-on-cpu/gpu.roof $(BUILD)/roof-on-cpu/libcublas.so)
$(BUILD)/libaiinfra-cuda-on-cpu.so: $(CU_SRCS) $(CUDA_SRCS) $(wildcard $(FAKE_CUDA)/*) $(wildcard kernels/cuda/*.h \
  src/backend/cuda/*.h) $(BUILD)/libaiinfra.a
	$(say) LD $@
	@mkdir -p $(BUILD)/obj/cuda_on_cpu
	$(Q)for f in $(CU_SRCS); do \
	  $(CXX) -std=c++17 -O2 -g -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Werror -Wno-unused-function -Wno-unknown-pragmas \
	    -I$(FAKE_CUDA) -Iinclude -I. -x c++ -c $$f -o $(BUILD)/obj/cuda_on_cpu/$$(basename $$f).o || exit 1; done
	$(Q)for f in $(CUDA_SRCS) $(FAKE_CUDA)/fibre.c; do \
	  $(CC) $(CSTD) -O2 -g $(WARN) -fPIC -fvisibility=hidden -ffp-contract=off -I$(FAKE_CUDA) -Iinclude -I. \
	    -c $$f -o $(BUILD)/obj/cuda_on_cpu/$$(basename $$f).o || exit 1; done
	$(Q)$(CXX) -shared $(BUILD)/obj/cuda_on_cpu/*.o -Wl,--exclude-libs,ALL $(BUILD)/libaiinfra.a -lm -ldl -pthread -o $@

$(BUILD)/nccl-on-cpu/libnccl.so.2: $(FAKE_CUDA)/nccl.c
	$(say) LD $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) -D_GNU_SOURCE -O2 -g $(WARN) -fPIC -fvisibility=hidden -shared -Wl,-soname,libnccl.so.2 $< -lrt -o $@

$(BUILD)/roof-on-cpu/gpu.roof: tests/gpu/roof.cu $(FAKE_CUDA)/fibre.c $(wildcard $(FAKE_CUDA)/*.h) kernels/cuda/device.h
	$(say) LD $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) -O2 $(WARN) -c $(FAKE_CUDA)/fibre.c -o $(@D)/fibre.o
	$(Q)$(CXX) -std=c++17 -O2 -g -Wall -Wextra -Werror -Wno-unused-function -Wno-unknown-pragmas -I$(FAKE_CUDA) -Iinclude -I. \
	  -x c++ $< -x none $(@D)/fibre.o -ldl -o $@

$(BUILD)/roof-on-cpu/libcublas.so: $(FAKE_CUDA)/cublas.c
	$(say) LD $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) -O2 -g $(WARN) -fPIC -fvisibility=hidden -shared $< -o $@

# ---- what a machine needs ------------------------------------------------------------------------------------
.PHONY: deps
deps: deps-build-test
deps-%:
	@src/packaging/deps.sh $(subst -, ,$*)

# ---- see it work ---------------------------------------------------------------------------------------------
.PHONY: demo run-demo
demo: deps-build
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) run-demo
run-demo: all
	$(Q)examples/demo.sh $(BUILD)

# ---- tests: tests/CMakeLists.txt registers them, tests/support/run_tests.py builds and runs them ---------------
.PHONY: test run-tests sanitize torture fuzz run-fuzz bench run-bench
RUN_TESTS = python3 tests/support/run_tests.py --build-dir $(BUILD) --jobs $(JOBS) --cc $(CC) --cxx $(CXX) \
            --cflags '$(OPT) $(PKG_CFLAGS) $(EXTRA)' --libs '$(LIBS) $(EXTRA)'
test: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) run-tests
# Tests of the CUDA plug-in use its kernels on the CPU.
WANTS_CUDA = $(or $(if $(T),,all),$(findstring gpu,$(T)),$(findstring cuda,$(T)),$(findstring e2e,$(T)))
run-tests: $(if $(filter command,$(origin MODULES)),static,all $(if $(WANTS_CUDA),$(FAKE_CUDA_LIB)))
	$(Q)$(RUN_TESTS) $(if $(T),--match '$(T)')

# Torture under ctest samples large scenarios; here every fallible call fails, once and from then on.
torture: deps
	$(Q)AIINFRA_TORTURE_FULL=1 $(MAKE) --no-print-directory -j$(JOBS) DEBUG=1 BUILD=$(BUILD)/torture $(NO_PLUGINS) T='^torture' run-tests

ASAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
TSAN := -fsanitize=thread -fno-omit-frame-pointer
sanitize: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/asan $(NO_PLUGINS) DEBUG=1 OPT=-O1 EXTRA='$(ASAN)' \
	  T='^(unit|api|sim|kernels|torture|fuzz)\.' run-tests
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/tsan $(NO_PLUGINS) DEBUG=1 OPT=-O1 EXTRA='$(TSAN)' \
	  T='^(unit|api|sim)\.' run-tests

fuzz: deps-build-fuzz
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/fuzz $(NO_PLUGINS) CC=clang DEBUG=1 OPT=-O1 WARN=-Wall \
	  EXTRA='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined' run-fuzz
run-fuzz: static
	$(Q)CC='$(CC)' CFLAGS='$(CSTD) -g -O1 -Iinclude -I. $(PKG_CFLAGS) $(EXTRA)' LIBS='$(LIBS)' \
	  tests/fuzz/run.sh $(BUILD) $(FUZZ_SECONDS) '$(T)'

bench: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) run-bench
run-bench: all
	$(Q)$(RUN_TESTS) --bench $(if $(T),--match '$(T)')

# Beside llama.cpp, which is built the first time: see tests/bench/cpu/run.py for its variables.
.PHONY: bench-cpu run-bench-cpu
bench-cpu: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) run-bench-cpu
run-bench-cpu: all $(BUILD)/bench/machine
	$(Q)peer=$$(tests/support/peer.sh $(BUILD) $(ISA)) && PYTHONDONTWRITEBYTECODE=1 python3 tests/bench/cpu/run.py $(BUILD) "$$peer"
$(BUILD)/bench/machine: tests/bench/cpu/machine.c
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) -O3 $(WARN) -pthread $< -o $@

# The vector store beside hnswlib, faiss and usearch: see tests/bench/vector/run.py for its variables.
.PHONY: bench-vector run-bench-vector
bench-vector: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) run-bench-vector
run-bench-vector: all $(BUILD)/bench/machine $(BUILD)/bench/vector_ours
	$(Q)peers=$$(tests/support/vector_peers.sh $(BUILD)) && "$$peers" -B tests/bench/vector/run.py $(BUILD)
$(BUILD)/bench/vector_ours: tests/bench/vector/ours.c $(BUILD)/libaiinfra.so
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CSTD) -O2 $(WARN) -Iinclude $< -L$(BUILD) -laiinfra -lm -Wl,-rpath,'$$ORIGIN/..' -o $@

# Everything beside other implementations, such as Hugging Face transformers: tests/reference/run.sh lists the parts.
.PHONY: reference run-reference
reference: deps-build-test-nano
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) run-reference
run-reference: all
	$(Q)CC='$(CC)' CFLAGS='$(CSTD) -g -O1 -Iinclude -I. -Itests $(PKG_CFLAGS) $(EXTRA)' LIBS='$(LIBS)' \
	  JOBS='$(JOBS)' tests/reference/run.sh $(BUILD) '$(T)'

# What each type of weights loses: writes the tables of docs/quantization.md.
.PHONY: quality run-quality
quality: deps-build
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) run-quality
run-quality: all
	$(Q)JOBS='$(JOBS)' python3 -B tests/reference/quality.py $(BUILD)

# ---- gates ---------------------------------------------------------------------------------------------------
.PHONY: lint format abi-check abi-update docs nano-eval
lint: deps-build-lint
	$(Q)tests/lint/run.sh
format: deps-lint
	clang-format-14 -i $$(tests/lint/c_files.sh)

abi-check: deps-build-abi
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) libs
	$(Q)AIINFRA_BUILD=$(BUILD) tests/abi/run.sh
abi-update: deps-build-abi
	$(Q)python3 tests/abi/map.py --update
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) libs
	$(Q)AIINFRA_BUILD=$(BUILD) tests/abi/update.sh

docs: deps-build
	$(Q)python3 tests/lint/check_docs.py
	$(Q)python3 docs/api_reference.py $(BUILD)/docs

nano-eval: deps-build
	+$(Q)$(MAKE) --no-print-directory $(BUILD)/examples/nano_eval
	$(Q)examples/nano/eval.sh $(BUILD)

# ---- install -------------------------------------------------------------------------------------------------
.PHONY: install uninstall
INSTALL = BUILD='$(BUILD)' DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' VERSION='$(VERSION)' SONAME='$(SONAME)' \
          PKGS='$(PKGS)' src/packaging/install.sh
install: all
	$(Q)$(INSTALL) install
uninstall:
	$(Q)$(INSTALL) uninstall

# ---- the rest ------------------------------------------------------------------------------------------------
.PHONY: clean help
clean:
	rm -rf $(addprefix $(BUILD)/,obj libaiinfra.* aiinfra examples tests torture asan tsan fuzz docs)

help:
	@echo 'make VERB [VARIABLE=value ...]       (the variables are at the top of the Makefile)'
	@echo '  all         the library, the aiinfra program and the examples (the default)'
	@echo '  deps        install the Debian packages that are missing'
	@echo '  demo        see it work: the bundled model, on this machine'
	@echo '  test        build and run every test; T=regex picks some'
	@echo '  bench       measure, side by side with the physical limit'
	@echo '  bench-cpu   measure side by side with llama.cpp; QUICK=1 takes under five minutes'
	@echo '  bench-vector  measure the vector store side by side with hnswlib, faiss and usearch; QUICK=1: 20,000 vectors'
	@echo '  reference   compare with transformers, tokenizers, jinja2, gguf and llama.cpp; T=regex picks some'
	@echo '  quality     what each type of weights loses; writes the tables of docs/quantization.md'
	@echo '  cuda        the plug-in for NVIDIA GPUs, where nvcc is (a part of all then); cuda-report: registers and spills'
	@echo '  mpi         the plug-in for models in several processes, where mpicc is (a part of all then)'
	@echo '  postgres    the plug-in for databases in PostgreSQL, where libpq is (a part of all then)'
	@echo '  gpu-bundle  what tests/gpu/run.sh needs to check and measure on a machine with a GPU'
	@echo '  lint        the rules of the house: floors, doors, words, format'
	@echo '  sanitize    the tests under ASan with UBSan, then under TSan'
	@echo '  torture     fail every fallible call of every scenario'
	@echo '  fuzz        libFuzzer, FUZZ_SECONDS for each target'
	@echo '  abi-check   symbols, layouts, comments and abidiff; abi-update accepts a change'
	@echo '  docs        check the documentation and write the API reference to build/docs'
	@echo '  nano-eval   measure the demo model'
	@echo '  install     PREFIX=/usr/local DESTDIR=; uninstall removes it'
	@echo '  format      clang-format everything'
	@echo '  clean       remove what was built'
