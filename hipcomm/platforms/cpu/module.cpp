// Modules: code objects loaded from memory or from a file.
#include "module.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "elf_image.h"
#include "error.h"
#include "limits.h"
#include "handle_table.h"
#include "mapped_file.h"
#include "regions.h"

namespace hipcomm::cpu {
namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
#error "name this machine's ELF number here"
#endif

HandleTable<ihipModule_t, 4096> modules;
HandleTable<ihipModuleSymbol_t, 65536> functions;

bool write_all(int file, const void* data, size_t bytes) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t written = write(file, next, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        next += written;
        bytes -= static_cast<size_t>(written);
    }
    return true;
}

hipError_t load(hipModule_t* module, const void* image, size_t available) {
    if (module == nullptr || image == nullptr) return hipErrorInvalidValue;
    *module = nullptr;
    size_t bytes = 0;
    const hipError_t valid = measure_elf_image(image, available, kMachine, &bytes);
    if (valid != hipSuccess) return valid;
    FileDescriptor file = open_descriptor([] { return memfd_create("hipcomm-module", MFD_CLOEXEC); });
    if (!file || !write_all(file.get(), image, bytes)) return out_of_memory(errno, bytes);
    const std::string path = "/proc/self/fd/" + std::to_string(file.get());
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        const char* const reason = dlerror();
        const std::string words = reason == nullptr ? "dlopen" : reason;
        if (raise_descriptor_limit()) handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        explain(hipErrorSharedObjectInitFailed, words + descriptor_limit());
    }
    if (handle == nullptr) {
        return hipErrorSharedObjectInitFailed;
    }
    *module = modules.create(std::make_shared<SharedObject>(std::move(file), path, handle));
    return hipSuccess;
}

hipError_t load_file(hipModule_t* module, const char* path) {
    if (module == nullptr || path == nullptr) return hipErrorInvalidValue;
    *module = nullptr;
    return with_mapped_file(path, [&](const void* image, size_t bytes) { return load(module, image, bytes); });
}

hipError_t read_layout(const SharedObject& object, const std::string& kernel, ArgumentLayout& layout) {
    const SharedObject::Symbol table = object.find((kernel + "_kernargs").c_str(), STT_OBJECT);
    if (table.address == nullptr) return hipSuccess;
    const uint32_t* const words = static_cast<const uint32_t*>(table.address);
    if (table.bytes < sizeof *words) return hipErrorInvalidImage;
    const size_t count = words[0];
    if (count > kMaxKernargBytes || table.bytes < (1 + 2 * count) * sizeof *words)
        return hipErrorInvalidImage;
    uint64_t offset = 0;
    for (size_t index = 0; index < count; ++index) {
        const uint32_t bytes = words[1 + 2 * index];
        const uint32_t alignment = words[2 + 2 * index];
        if (alignment == 0 || (alignment & (alignment - 1)) != 0) return hipErrorInvalidImage;
        offset = (offset + alignment - 1) / alignment * alignment;
        if (offset + bytes > kMaxKernargBytes) return hipErrorInvalidImage;
        layout.arguments.push_back({static_cast<uint32_t>(offset), bytes});
        offset += bytes;
    }
    layout.is_declared = true;
    layout.bytes = static_cast<uint32_t>(offset);
    return hipSuccess;
}

hipError_t get_function(hipFunction_t* function, hipModule_t handle, const char* name) {
    if (function == nullptr || name == nullptr) return hipErrorInvalidValue;
    *function = nullptr;
    ihipModule_t* const module = modules.find(handle);
    if (module == nullptr) return hipErrorInvalidHandle;
    const std::lock_guard<std::mutex> lock(module->mutex);
    const auto known = module->functions.find(name);
    if (known != module->functions.end()) {
        *function = known->second;
        return hipSuccess;
    }
    const SharedObject::Symbol symbol = module->object->find(name, STT_FUNC);
    if (symbol.address == nullptr) return hipErrorNotFound;
    ArgumentLayout layout;
    const hipError_t valid = read_layout(*module->object, name, layout);
    if (valid != hipSuccess) return valid;
    hipFunction_t& slot = module->functions[name];  // room first: creating the function is then the last step
    slot = functions.create(ihipModuleSymbol_t{reinterpret_cast<hipcommCpuKernel>(symbol.address),
                                               std::move(layout), module->object});
    *function = slot;
    return hipSuccess;
}

hipError_t get_global(hipDeviceptr_t* pointer, size_t* bytes, hipModule_t handle, const char* name) {
    if (name == nullptr || (pointer == nullptr && bytes == nullptr)) return hipErrorInvalidValue;
    ihipModule_t* const module = modules.find(handle);
    if (module == nullptr) return hipErrorInvalidHandle;
    const SharedObject::Symbol symbol = module->object->find(name, STT_OBJECT);
    if (symbol.address == nullptr) return hipErrorNotFound;
    auto region = std::make_shared<Region>();
    region->kind = RegionKind::kModuleGlobal;
    region->base = reinterpret_cast<uintptr_t>(symbol.address);
    region->bytes = symbol.bytes;
    region->owner = module;
    // Known already where the variable was asked for before.
    Regions::instance().insert(std::move(region));
    if (pointer != nullptr) *pointer = symbol.address;
    if (bytes != nullptr) *bytes = symbol.bytes;
    return hipSuccess;
}

}  // namespace

SharedObject::~SharedObject() {
    dlclose(handle_);
    // An object that cannot be unloaded (one with unique C++ symbols) is still known to the dynamic linker by
    // its path.  The descriptor then has to stay, or the next module with its number would be taken for this.
    void* const leftover = dlopen(path_.c_str(), RTLD_NOW | RTLD_NOLOAD);
    if (leftover != nullptr) {
        dlclose(leftover);
        file_.release();
    }
}

SharedObject::Symbol SharedObject::find(const char* name, unsigned char type) const {
    void* const address = dlsym(handle_, name);
    if (address == nullptr) return {};
    // dlsym also searches what the object was linked with: the C library's malloc is no kernel.
    Dl_info info;
    void* owner = nullptr;
    void* entry = nullptr;
    void* own = nullptr;
    if (dladdr1(address, &info, &owner, RTLD_DL_LINKMAP) == 0 ||
        dlinfo(handle_, RTLD_DI_LINKMAP, &own) != 0 || owner != own) {
        return {};
    }
    if (dladdr1(address, &info, &entry, RTLD_DL_SYMENT) == 0 || entry == nullptr) return {};
    const auto* const symbol = static_cast<const Elf64_Sym*>(entry);
    if (ELF64_ST_TYPE(symbol->st_info) != type) return {};
    return {address, symbol->st_size};
}

const ihipModuleSymbol_t* find_function(const void* handle) noexcept { return functions.find(handle); }

}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

ihipModule_t::~ihipModule_t() {
    Regions::instance().remove_owned_by(this);
    for (const auto& entry : functions) {
        if (entry.second != nullptr) hipcomm::cpu::functions.destroy(entry.second);
    }
}

hipError_t hipModuleLoadData(hipModule_t* module, const void* image) {
    return api([&] { return load(module, image, kUnknownLength); });
}

hipError_t hipModuleLoad(hipModule_t* module, const char* path) {
    return api([&] { return load_file(module, path); });
}

hipError_t hipModuleUnload(hipModule_t module) {
    return api([&] {
        ihipModule_t* const found = modules.find(module);
        if (found == nullptr) return hipErrorInvalidHandle;
        return modules.destroy(found) ? hipSuccess : hipErrorInvalidHandle;
    });
}

hipError_t hipModuleGetFunction(hipFunction_t* function, hipModule_t module, const char* name) {
    return api([&] { return get_function(function, module, name); });
}

hipError_t hipModuleGetGlobal(hipDeviceptr_t* pointer, size_t* bytes, hipModule_t module, const char* name) {
    return api([&] { return get_global(pointer, bytes, module, name); });
}
