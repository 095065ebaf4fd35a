#include "device.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../failure.h"
#include "digest.h"

hipcommResult_t enter_device(const Device* device, int* before) {
    const hipcommResult_t result = HIP_CALL(GetDevice, before);
    return result == hipcommSuccess ? HIP_CALL(SetDevice, device->ordinal) : result;
}

hipcommResult_t leave_device(int before, hipcommResult_t result) {
    const hipError_t error = hip->SetDevice(before);
    return result == hipcommSuccess ? hip_check("hipSetDevice", error) : result;
}

static void write_pci_bus_id(const hipDeviceProp_tR0600* properties, char* text, size_t size) {
    snprintf(text, size, "%04x:%02x:%02x.0", (unsigned)properties->pciDomainID, (unsigned)properties->pciBusID,
             (unsigned)properties->pciDeviceID);
}

/* Without "GPU-", hyphens and capitals. */
static void normalise_uuid(const char* text, size_t size, char* plain) {
    const bool has_prefix = size > 4 && (text[0] | 32) == 'g' && (text[1] | 32) == 'p' && (text[2] | 32) == 'u' &&
                            text[3] == '-';
    for (size_t i = has_prefix ? 4 : 0; i < size && text[i]; ++i)
        if (text[i] != '-') *plain++ = (char)tolower((unsigned char)text[i]);
    *plain = '\0';
}

/* Whether a text names this device: its PCI bus id, with or without domain, or its UUID. */
static hipcommResult_t is_named(const char* name, int ordinal, bool* is_it) {
    hipDeviceProp_tR0600 properties;
    hipUUID uuid;
    hipcommResult_t result = HIP_CALL(GetDevicePropertiesR0600, &properties, ordinal);
    if (result == hipcommSuccess) result = HIP_CALL(DeviceGetUuid, &uuid, ordinal);
    if (result != hipcommSuccess) return result;
    char bus[32], wanted[64], digits[2 * sizeof uuid.bytes + 1], as_text[sizeof uuid.bytes + 1];
    write_pci_bus_id(&properties, bus, sizeof bus);
    normalise_uuid(name, strlen(name), wanted);
    write_hexadecimal((const uint8_t*)uuid.bytes, sizeof uuid.bytes, digits);
    normalise_uuid(uuid.bytes, sizeof uuid.bytes, as_text); /* ROCm fills in text */
    *is_it = strcasecmp(name, bus) == 0 || strcasecmp(name, strchr(bus, ':') + 1) == 0 ||
             strcmp(wanted, digits) == 0 || strcmp(wanted, as_text) == 0;
    return hipcommSuccess;
}

static hipcommResult_t find_device(const Settings* settings, int local_rank, int count, int* ordinal) {
    const char* name = settings->device;
    if (!*name) { /* each rank may see devices of its own; those on the same device find out by its bus id */
        *ordinal = local_rank % count;
        return hipcommSuccess;
    }
    if (strspn(name, "0123456789") == strlen(name)) {
        *ordinal = strlen(name) > 6 ? count : atoi(name);
        if (*ordinal < count) return hipcommSuccess;
        return set_error(NULL, hipcommInvalidArgument, "device '%s': there are %d devices, 0 to %d", name, count,
                         count - 1);
    }
    for (*ordinal = 0; *ordinal < count; ++*ordinal) {
        bool is_it;
        const hipcommResult_t result = is_named(name, *ordinal, &is_it);
        if (result != hipcommSuccess || is_it) return result;
    }
    return set_error(NULL, hipcommInvalidArgument, "device '%s': none of the %d devices has this id", name, count);
}

hipcommResult_t open_device(const Settings* settings, int local_rank, Device* device) {
    int count;
    hipDeviceProp_tR0600 properties;
    hipcommResult_t result = HIP_CALL(GetDeviceCount, &count);
    if (result == hipcommSuccess) result = find_device(settings, local_rank, count, &device->ordinal);
    if (result == hipcommSuccess) result = HIP_CALL(SetDevice, device->ordinal);
    if (result == hipcommSuccess) result = HIP_CALL(GetDevicePropertiesR0600, &properties, device->ordinal);
    if (result != hipcommSuccess) return result;
    write_pci_bus_id(&properties, device->pci_bus_id, sizeof device->pci_bus_id);
    snprintf(device->arch, sizeof device->arch, "%.63s", properties.gcnArchName);
    device->multiprocessors = properties.multiProcessorCount;
    device->is_host = properties.maxThreadsPerBlock == 1;
    return hipcommSuccess;
}
