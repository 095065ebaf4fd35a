// Modules: AMD code objects loaded from memory or from a file.
#include "module.h"

#include "../cpu/elf_image.h"
#include "../cpu/handle_table.h"
#include "../cpu/mapped_file.h"
#include "settings.h"

namespace hipcomm::amd {
namespace {

constexpr uint16_t kMachineAmdgpu = 224;  // EM_AMDGPU

cpu::HandleTable<ihipModule_t, 4096> modules;
cpu::HandleTable<ihipModuleSymbol_t, 65536> functions;

hipError_t load(hipModule_t* module, const void* image, size_t available) {
    if (module == nullptr || image == nullptr) return hipErrorInvalidValue;
    *module = nullptr;
    size_t bytes = 0;
    const hipError_t valid = cpu::measure_elf_image(image, available, kMachineAmdgpu, &bytes);
    if (valid != hipSuccess) return valid;
    if (settings().target == nullptr) return hipErrorNoBinaryForGpu;
    std::string error;
    auto object = CodeObject::load(image, bytes, *settings().target, error);
    if (object == nullptr) {
        cpu::explain(hipErrorNoBinaryForGpu, error);
        return hipErrorNoBinaryForGpu;
    }
    *module = modules.create(std::move(object));
    return hipSuccess;
}

hipError_t load_file(hipModule_t* module, const char* path) {
    if (module == nullptr || path == nullptr) return hipErrorInvalidValue;
    *module = nullptr;
    return cpu::with_mapped_file(
        path, [&](const void* image, size_t bytes) { return load(module, image, bytes); });
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
    std::shared_ptr<const Kernel> kernel;
    const hipError_t valid = guarded(hipErrorInvalidImage, [&] { kernel = module->object->find(name); });
    if (valid != hipSuccess) return valid;
    if (kernel == nullptr) return hipErrorNotFound;
    hipFunction_t& slot = module->functions[name];  // room first: creating the function is then the last step
    slot = functions.create(ihipModuleSymbol_t{std::move(kernel)});
    *function = slot;
    return hipSuccess;
}

}  // namespace

const ihipModuleSymbol_t* find_function(const void* handle) noexcept { return functions.find(handle); }

}  // namespace hipcomm::amd

using namespace hipcomm::amd;
using hipcomm::cpu::api;
using hipcomm::cpu::kUnknownLength;

ihipModule_t::~ihipModule_t() {
    for (const auto& entry : functions) {
        if (entry.second != nullptr) hipcomm::amd::functions.destroy(entry.second);
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

// The kernels have no global variables.
hipError_t hipModuleGetGlobal(hipDeviceptr_t*, size_t*, hipModule_t module, const char* name) {
    return api([&] {
        if (name == nullptr) return hipErrorInvalidValue;
        return modules.find(module) == nullptr ? hipErrorInvalidHandle : hipErrorNotFound;
    });
}
