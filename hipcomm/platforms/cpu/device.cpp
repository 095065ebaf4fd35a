// Devices: enumeration, identity, the current device of a thread.
#include "device.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "capture.h"
#include "error.h"

namespace hipcomm::cpu {
namespace {

constexpr int kDefaultDevices = 16;

// PCI domains where no machine has anything, so that nobody takes the bus id of a CPU device for that of a
// network card or a disk: of devices as they are, and of those that the environment names.
constexpr unsigned kPciDomain = 0xc000;
constexpr unsigned kNamedPciDomain = 0xc001;

int count_devices() {
    const char* text = std::getenv("HIPCOMM_CPU_DEVICES");
    if (text == nullptr || *text == '\0') return kDefaultDevices;
    char* end = nullptr;
    errno = 0;
    const long count = std::strtol(text, &end, 10);
    // A value that is not a count means no devices: the program stops at once and with an error that says so,
    // where a default would hide the mistake.
    if (errno != 0 || *end != '\0' || count < 0 || count > kMaxDevices) return 0;
    return static_cast<int>(count);
}

// What the environment says of visible GPUs.  It takes no CPU device away: a job on the CPU must not fail, or shrink,
// because of a variable that is about GPUs.
const char* visible_gpus() {
    for (const char* name : {"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"}) {
        const char* list = std::getenv(name);
        if (list != nullptr && *list != '\0') return list;
    }
    return "";
}

// The GPUs' numbers, by the device that takes the name.  As in HIP, the list ends at the first entry that is no
// number, or that has been there before.
std::vector<int> find_names() {
    std::vector<int> names;
    const char* list = visible_gpus();
    while (*list != '\0' && static_cast<int>(names.size()) < device_count()) {
        char* end = nullptr;
        errno = 0;
        const long number = std::strtol(list, &end, 10);
        if (errno != 0 || end == list || (*end != ',' && *end != '\0') || number < 0 || number >= kMaxDevices) break;
        const int name = static_cast<int>(number);
        if (std::find(names.begin(), names.end(), name) != names.end()) break;
        names.push_back(name);
        list = *end == ',' ? end + 1 : end;
    }
    return names;
}

// Where launchers give each rank one GPU, everybody's device is number 0, and its bus id tells them apart.  So that
// such a job can be tried on the CPU, a device's bus id comes from the number of the GPU in its place.
const std::vector<int>& names() {
    static const std::vector<int> found = find_names();
    return found;
}

bool is_named(int device) { return device < static_cast<int>(names().size()); }

unsigned pci_domain(int device) { return is_named(device) ? kNamedPciDomain : kPciDomain; }

unsigned pci_bus(int device) {
    return static_cast<unsigned>(is_named(device) ? names()[static_cast<size_t>(device)] : device) + 1;
}

thread_local int current = 0;
thread_local unsigned schedule_flags = hipDeviceScheduleAuto;

}  // namespace

int device_count() noexcept {
    static const int count = count_devices();
    return count;
}

int current_device() noexcept { return current; }

size_t device_memory_bytes() noexcept {
    static const size_t bytes = [] {
        const long pages = sysconf(_SC_PHYS_PAGES);
        const long page_bytes = sysconf(_SC_PAGESIZE);
        return pages > 0 && page_bytes > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page_bytes) : 0;
    }();
    return bytes;
}

}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipInit(unsigned int flags) {
    return api([&] {
        if (flags != 0) return hipErrorInvalidValue;
        return device_count() > 0 ? hipSuccess : hipErrorNoDevice;
    });
}

namespace {
constexpr int kHipVersion = 70200000;  // HIP 7.2: major * 10^7 + minor * 10^5 + patch
}

hipError_t hipDriverGetVersion(int* version) {
    if (version == nullptr) return report(hipErrorInvalidValue);
    *version = kHipVersion;
    return hipSuccess;
}

hipError_t hipRuntimeGetVersion(int* version) { return hipDriverGetVersion(version); }

hipError_t hipGetDeviceCount(int* count) {
    return api([&] {
        if (count == nullptr) return hipErrorInvalidValue;
        *count = device_count();
        return *count > 0 ? hipSuccess : hipErrorNoDevice;
    });
}

hipError_t hipSetDevice(int device) {
    if (!is_device(device)) return report(device_count() > 0 ? hipErrorInvalidDevice : hipErrorNoDevice);
    current = device;
    return hipSuccess;
}

hipError_t hipGetDevice(int* device) {
    if (device == nullptr) return report(hipErrorInvalidValue);
    if (device_count() == 0) return report(hipErrorNoDevice);
    *device = current;
    return hipSuccess;
}

hipError_t hipSetDeviceFlags(unsigned int flags) {
    constexpr unsigned kKnown = hipDeviceScheduleMask | hipDeviceMapHost | hipDeviceLmemResizeToMax;
    const unsigned schedule = flags & hipDeviceScheduleMask;
    const bool one_schedule = (schedule & (schedule - 1)) == 0;
    if ((flags & ~kKnown) != 0 || !one_schedule) return report(hipErrorInvalidValue);
    schedule_flags = flags;
    return hipSuccess;
}

hipError_t hipDeviceGetName(char* name, int length, hipDevice_t device) {
    return api([&] {
        if (name == nullptr || length <= 0) return hipErrorInvalidValue;
        if (!is_device(device)) return hipErrorInvalidDevice;
        std::snprintf(name, static_cast<size_t>(length), "%s %d", device_kind(), device);
        return hipSuccess;
    });
}

hipError_t hipDeviceGetUuid(hipUUID* uuid, hipDevice_t device) {
    return api([&] {
        if (uuid == nullptr) return hipErrorInvalidValue;
        if (!is_device(device)) return hipErrorInvalidDevice;
        // 16 characters without a terminator, as on AMD GPUs; the same in every process of the machine.
        char text[sizeof uuid->bytes + 1];
        std::snprintf(text, sizeof text, "hipcomm-cpu-%04x", device & 0xffff);
        std::memcpy(uuid->bytes, text, sizeof uuid->bytes);
        return hipSuccess;
    });
}

hipError_t hipDeviceGetPCIBusId(char* pci_bus_id, int length, int device) {
    return api([&] {
        if (pci_bus_id == nullptr || length <= 0) return hipErrorInvalidValue;
        if (!is_device(device)) return hipErrorInvalidDevice;
        char text[16];
        const int needed = std::snprintf(text, sizeof text, "%04x:%02x:00.0", pci_domain(device), pci_bus(device));
        if (needed >= length) return hipErrorInvalidValue;
        std::memcpy(pci_bus_id, text, static_cast<size_t>(needed) + 1);
        return hipSuccess;
    });
}

hipError_t hipDeviceGetByPCIBusId(int* device, const char* pci_bus_id) {
    return api([&] {
        if (device == nullptr || pci_bus_id == nullptr) return hipErrorInvalidValue;
        unsigned domain = 0;
        unsigned bus = 0;
        unsigned slot = 0;
        unsigned function = 0;
        if (std::sscanf(pci_bus_id, "%4x:%2x:%2x.%1x", &domain, &bus, &slot, &function) != 4) {
            return hipErrorInvalidValue;
        }
        for (int candidate = 0; candidate < device_count(); ++candidate) {
            if (domain == pci_domain(candidate) && bus == pci_bus(candidate) && slot == 0 && function == 0) {
                *device = candidate;
                return hipSuccess;
            }
        }
        return hipErrorInvalidDevice;
    });
}

hipError_t hipDeviceTotalMem(size_t* bytes, hipDevice_t device) {
    if (bytes == nullptr) return report(hipErrorInvalidValue);
    if (!is_device(device)) return report(hipErrorInvalidDevice);
    *bytes = device_memory_bytes();
    return hipSuccess;
}

hipError_t hipDeviceSynchronize(void) {
    // Work is complete when the call that submitted it returns; what remains to check is that nothing on this
    // device is being captured.
    return api([] { return check_device_synchronize(current_device()); });
}

hipError_t hipDeviceReset(void) {
    // On the CPU a reset would pull memory from under the process's own threads.
    return report(hipErrorNotSupported);
}
