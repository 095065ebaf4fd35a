// Access between devices.  All of them share the machine's memory, so access always works; what is kept is
// the state that programs see, with HIP's errors for enabling twice and disabling what is not enabled.
#include <atomic>

#include "device.h"
#include "error.h"

namespace hipcomm::cpu {
namespace {

std::atomic<bool> enabled[kMaxDevices][kMaxDevices];  // [device][peer]

}  // namespace
}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipDeviceCanAccessPeer(int* can_access, int device, int peer) {
    if (can_access == nullptr) return report(hipErrorInvalidValue);
    if (!is_device(device) || !is_device(peer)) return report(hipErrorInvalidDevice);
    *can_access = device != peer;
    return hipSuccess;
}

hipError_t hipDeviceEnablePeerAccess(int peer, unsigned int flags) {
    return api([&] {
        if (flags != 0) return hipErrorInvalidValue;
        if (!is_device(peer) || peer == current_device()) return hipErrorInvalidDevice;
        const bool was_enabled = enabled[current_device()][peer].exchange(true);
        return was_enabled ? hipErrorPeerAccessAlreadyEnabled : hipSuccess;
    });
}

hipError_t hipDeviceDisablePeerAccess(int peer) {
    return api([&] {
        if (!is_device(peer) || peer == current_device()) return hipErrorInvalidDevice;
        const bool was_enabled = enabled[current_device()][peer].exchange(false);
        return was_enabled ? hipSuccess : hipErrorPeerAccessNotEnabled;
    });
}

hipError_t hipDeviceGetP2PAttribute(int* value, hipDeviceP2PAttr attribute, int source, int destination) {
    return api([&] {
        if (value == nullptr) return hipErrorInvalidValue;
        if (!is_device(source) || !is_device(destination) || source == destination)
            return hipErrorInvalidDevice;
        switch (attribute) {
            case hipDevP2PAttrPerformanceRank: *value = 0; break;
            case hipDevP2PAttrAccessSupported:
            case hipDevP2PAttrNativeAtomicSupported: *value = 1; break;
            case hipDevP2PAttrHipArrayAccessSupported: *value = 0; break;
            default: return hipErrorInvalidValue;
        }
        return hipSuccess;
    });
}
